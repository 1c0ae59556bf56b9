"""An upstream that behaves as a model would, so that whole clients can be tried on it: it calls the tools it is
offered, fills in schemas, looks at pictures. In each of the three formats, plain and streaming.

It has every model but `missing`.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.formats import message, message_events, named, response, response_events
from tests.fakes.upstream import DONE, chunk, completion, deltas, stream

__all__ = ["KNOWN", "PICTURE", "assistant"]

KNOWN: dict[str, Any] = {"city": "Lisbon", "people": 545000}
"""What it fills in, where a schema or a tool asks for it."""

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()
"""Something that looks like a picture from outside."""


@dataclass
class Asked:
    """What is common to the formats."""

    model: str
    is_stream: bool
    tools: list[tuple[str, Mapping[str, Any]]]
    schema: Mapping[str, Any] | None
    result: str | None
    has_picture: bool


@dataclass
class Said:
    """A text, or a call of a tool with its arguments."""

    text: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] | None = None


async def assistant(request: web.Request) -> web.StreamResponse:
    """A script for `FakeUpstream`."""
    if request.path == "/v1/models":
        return web.json_response({"object": "list", "data": [{"id": "fake-1", "object": "model", "owned_by": "f"}]})
    body = await request.json()
    face = FACES.get(request.path)
    if face is None:
        return web.json_response({"error": {"message": "no such path", "type": "invalid_request_error"}}, status=404)
    asked = face.read(body)
    if asked.model == "missing":
        failed: web.Response = face.error(404, "The model `missing` does not exist")
        return failed
    said = _said(asked)
    if asked.is_stream:
        return await stream(request, face.events(said))
    return web.json_response(face.answer(said))


def _said(asked: Asked) -> Said:
    if asked.has_picture:
        return Said("I see a picture.")
    if asked.result is not None:
        return Said(f"The tool says: {asked.result}")
    if asked.schema is not None:
        return Said(json.dumps(_filled(asked.schema)))
    if asked.tools:
        name, schema = asked.tools[0]
        return Said(tool=name, arguments=_filled(schema))
    return Said("Understood, and noted.")


def _filled(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: KNOWN[name] for name in schema.get("properties", {}) if name in KNOWN}


def _has_picture(content: Any, kind: str) -> bool:
    return isinstance(content, list) and any(part.get("type") == kind for part in content)


class Chat:
    @staticmethod
    def read(body: Mapping[str, Any]) -> Asked:
        last = body["messages"][-1]
        form = (body.get("response_format") or {}).get("json_schema")
        return Asked(
            body["model"],
            bool(body.get("stream")),
            [(tool["function"]["name"], tool["function"].get("parameters") or {}) for tool in body.get("tools") or []],
            form["schema"] if form else None,
            str(last["content"]) if last["role"] == "tool" else None,
            _has_picture(last["content"], "image_url"),
        )

    @staticmethod
    def error(status: int, text: str) -> web.Response:
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
        return web.json_response({"error": error}, status=status)

    @staticmethod
    def answer(said: Said) -> dict[str, Any]:
        if not said.tool:
            return completion(said.text)
        function = {"name": said.tool, "arguments": json.dumps(said.arguments)}
        made = completion(None, tool_calls=[{"id": "call_1", "type": "function", "function": function}])
        made["choices"][0]["finish_reason"] = "tool_calls"
        return made

    @staticmethod
    def events(said: Said) -> list[bytes]:
        if not said.tool:
            return [*deltas(said.text), DONE]
        arguments = json.dumps(said.arguments)
        begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": said.tool, "arguments": ""}}
        grown = [{"index": 0, "function": {"arguments": part}} for part in (arguments[:5], arguments[5:])]
        calls = [chunk({"tool_calls": [call]}) for call in (begun, *grown)]
        return [chunk({"role": "assistant", "content": None}), *calls, chunk({}, "tool_calls"), DONE]


class Messages:
    @staticmethod
    def read(body: Mapping[str, Any]) -> Asked:
        content = body["messages"][-1]["content"]
        blocks = content if isinstance(content, list) else []
        results = [block["content"] for block in blocks if block["type"] == "tool_result"]
        form = (body.get("output_config") or {}).get("format")
        return Asked(
            body["model"],
            bool(body.get("stream")),
            [(tool["name"], tool["input_schema"]) for tool in body.get("tools") or []],
            form["schema"] if form else None,
            _text(results[-1]) if results else None,
            _has_picture(content, "image"),
        )

    @staticmethod
    def error(status: int, text: str) -> web.Response:
        kind = "not_found_error" if status == 404 else "rate_limit_error"
        return web.json_response({"type": "error", "error": {"type": kind, "message": text}}, status=status)

    @staticmethod
    def answer(said: Said) -> dict[str, Any]:
        return message(said.text, tool=said.arguments, name=said.tool)

    @staticmethod
    def events(said: Said) -> list[bytes]:
        return message_events(said.text, tool=said.arguments, name=said.tool)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Responses:
    @staticmethod
    def read(body: Mapping[str, Any]) -> Asked:
        items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
        form = (body.get("text") or {}).get("format") or {}
        last = items[-1]
        return Asked(
            body["model"],
            bool(body.get("stream")),
            [(tool["name"], tool.get("parameters") or {}) for tool in body.get("tools") or []],
            form.get("schema"),
            _text(last["output"]) if last.get("type") == "function_call_output" else None,
            _has_picture(last.get("content"), "input_image"),
        )

    error = Chat.error

    @staticmethod
    def answer(said: Said) -> dict[str, Any]:
        whole = response(said.text)
        return {**whole, "output": [_call(said)]} if said.tool else whole

    @staticmethod
    def events(said: Said) -> list[bytes]:
        if not said.tool:
            return response_events(said.text)
        whole, item = Responses.answer(said), _call(said)
        where = {"item_id": item["id"], "output_index": 0}
        arguments = item["arguments"]
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", **where, "delta": arguments[:5]},
            {"type": "response.function_call_arguments.delta", **where, "delta": arguments[5:]},
            {"type": "response.function_call_arguments.done", **where, "name": said.tool, "arguments": arguments},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return [named({**event, "sequence_number": number}) for number, event in enumerate(events)]


def _call(said: Said) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": said.tool,
        "arguments": json.dumps(said.arguments),
        "status": "completed",
    }


FACES: dict[str, Any] = {
    "/v1/chat/completions": Chat,
    "/v1/messages": Messages,
    "/v1/responses": Responses,
}
