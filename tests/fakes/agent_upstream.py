"""An upstream for coding agents: it speaks all three formats, asks for one harmless call of a tool, then answers."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.upstream import DONE

__all__ = ["AgentUpstream"]

_TOOLS = (
    *("Read", "read", "read_file", "read_files", "ReadFile"),
    *("exec_command", "shell", "shell_command", "bash", "Bash", "run_shell_command", "run_commands", "execute_command"),
)


@dataclass
class AgentUpstream:
    """`task`: the text of a user message that is answered with a call, once; `file`: what the call reads. `received`
    are the bodies of all requests for an answer."""

    task: str
    file: str
    answer: str = "Understood."
    received: list[dict[str, Any]] = field(default_factory=list)
    has_called: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if request.method != "POST":
            return web.json_response({"object": "list", "data": [{"id": "made-up-1", "object": "model"}]})
        body = json.loads(raw)
        formats = {"/chat/completions": _chat, "/responses": _responses, "/messages": _messages}
        write = next((write for ending, write in formats.items() if request.path.endswith(ending)), None)
        if write is None:
            return web.json_response({"input_tokens": 100})
        self.received.append(body)
        call = self._call(body)
        plain, events, end = write(self.answer, call, str(body.get("model")))
        if not body.get("stream"):
            return web.json_response(plain)
        return await _streamed(request, events, end)

    def _call(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """A call of one of the tools that a request offers, if it asks for the task and has no result yet."""
        text = json.dumps(body.get("messages") or body.get("input") or "")
        if self.has_called or self.task not in text:
            return None
        offered = {}
        for tool in body.get("tools") or ():
            function = tool.get("function", tool)
            offered[function.get("name")] = function.get("parameters") or function.get("input_schema") or {}
        name = next((name for name in _TOOLS if name in offered), None)
        if name is None:
            return None
        self.has_called = True
        return name, self._filled(offered[name], "")

    def _filled(self, schema: dict[str, Any], name: str) -> Any:
        """Something small that fits a schema, with the file where a path or a command is asked for."""
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._filled(schema[choice][0], name)
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object" or "properties" in schema:
            fields = schema.get("properties", {})
            recall_options = schema.get("required") or list(fields)[:1]
            return {key: self._filled(fields.get(key, {}), key) for key in recall_options}
        if kind == "array":
            return [self._filled(schema.get("items", {}), name)]
        if "enum" in schema:
            return schema["enum"][0]
        if kind in ("integer", "number", "boolean"):
            return {"integer": 1, "number": 1, "boolean": False}[kind]
        if re.search("cmd|command", name):
            return f"cat {self.file}"
        return self.file if re.search("path|file", name) else "read the notes"


Events = list[tuple[str, dict[str, Any]]]
Call = tuple[str, dict[str, Any]] | None


def _chat(text: str, call: Call, model: str) -> tuple[dict[str, Any], Events, bytes]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if call is not None:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message |= {
            "content": None,
            "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}],
        }
    reason = "stop" if call is None else "tool_calls"
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    plain = base | {"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}
    piece = base | {"object": "chat.completion.chunk"}
    events: Events = [
        ("", piece | {"choices": [{"index": 0, "delta": message, "finish_reason": None}]}),
        ("", piece | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
        ("", piece | {"choices": [], "usage": usage}),
    ]
    return plain, events, DONE


def _responses(text: str, call: Call, model: str) -> tuple[dict[str, Any], Events, bytes]:
    if call is None:
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    else:
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": call[0], "status": "completed"}
        item["arguments"] = json.dumps(call[1])
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    base = {"id": "resp_1", "object": "response", "created_at": 1, "model": model}
    whole = base | {"status": "completed", "output": [item], "usage": usage}
    place = {"item_id": item["id"], "output_index": 0}
    bodies: list[dict[str, Any]] = [
        {"type": "response.created", "response": base | {"status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
    ]
    if call is None:
        bodies.append({"type": "response.output_text.delta", **place, "content_index": 0, "delta": text})
    bodies += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    events = [(str(one["type"]), one | {"sequence_number": number}) for number, one in enumerate(bodies)]
    return whole, events, b""


def _messages(text: str, call: Call, model: str) -> tuple[dict[str, Any], Events, bytes]:
    block: dict[str, Any] = {"type": "text", "text": text}
    empty: dict[str, Any] = {"type": "text", "text": ""}
    delta: dict[str, Any] = {"type": "text_delta", "text": text}
    if call is not None:
        empty = {"type": "tool_use", "id": "toolu_1", "name": call[0], "input": {}}
        block, delta = empty | {"input": call[1]}, {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
    reason = "end_turn" if call is None else "tool_use"
    usage = {"input_tokens": 7, "output_tokens": 5}
    base = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
        "usage": usage,
    }
    bodies: list[dict[str, Any]] = [
        {"type": "message_start", "message": base | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return base | {"content": [block], "stop_reason": reason}, [(str(one["type"]), one) for one in bodies], b""


async def _streamed(request: web.Request, events: Events, end: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for name, body in events:
        head = f"event: {name}\n" if name else ""
        await response.write(f"{head}data: {json.dumps(body)}\n\n".encode())
    await response.write(end)
    await response.write_eof()
    return response
