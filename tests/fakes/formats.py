"""Answers of upstreams that speak Anthropic's messages and OpenAI's responses, as those really write them."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.fakes.upstream import Script, stream

__all__ = ["message", "message_events", "named", "response", "response_events", "speaks_messages", "speaks_responses"]

_USAGE = {"input_tokens": 11, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 5}


def message(
    text: str, *, tool: Mapping[str, Any] | None = None, thinking: str = "", name: str = "look"
) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if thinking:
        content.append({"type": "thinking", "thinking": thinking, "signature": "sig"})
    if text or tool is None:
        content.append({"type": "text", "text": text})
    if tool is not None:
        content.append({"type": "tool_use", "id": "toolu_1", "name": name, "input": tool})
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-fake",
        "content": content,
        "stop_reason": "end_turn" if tool is None else "tool_use",
        "stop_sequence": None,
        "usage": _USAGE,
    }


def named(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def message_events(
    text: str, *, tool: Mapping[str, Any] | None = None, thinking: str = "", name: str = "look"
) -> list[bytes]:
    whole = message(text, tool=tool, thinking=thinking, name=name)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": _USAGE}},
        {"type": "ping"},
    ]
    for index, block in enumerate(whole["content"]):
        kind = block["type"]
        empty: dict[str, Any] = {"input": {}} if kind == "tool_use" else {kind: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
        if kind == "text":
            pieces = text.split(" ")
            deltas = [
                {"type": "text_delta", "text": piece if i == 0 else f" {piece}"} for i, piece in enumerate(pieces)
            ]
        elif kind == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": thinking}]
        else:
            arguments = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in (arguments[:5], arguments[5:])]
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ending, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
    return [named(event) for event in events]


def response(text: str, id_: str = "resp_1", status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "item_1", "status": "completed", "role": "assistant", "content": [part]}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 14,
    }
    return {
        "id": id_,
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "fake-1",
        "output": [item],
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
    }


def response_events(text: str, id_: str = "resp_1") -> list[bytes]:
    whole = response(text, id_)
    item, begun = whole["output"][0], {**whole, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "item_1", "output_index": 0, "content_index": 0}
    pieces = text.split(" ")
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {
            "type": "response.content_part.added",
            **where,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
    ]
    for index, piece in enumerate(pieces):
        delta = piece if index == 0 else f" {piece}"
        events.append({"type": "response.output_text.delta", **where, "delta": delta, "logprobs": []})
    events += [
        {"type": "response.output_text.done", **where, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **where, "part": item["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return [named({**event, "sequence_number": number}) for number, event in enumerate(events)]


def speaks_messages(text: str = "Understood.", **said: Any) -> Script:
    """A script that answers as Anthropic's server, plain or streaming; anything but messages is a 404."""

    async def script(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/messages/count_tokens":
            return web.json_response({"input_tokens": 12})
        if request.path != "/v1/messages":
            error = {"type": "error", "error": {"type": "not_found_error", "message": "Not found"}}
            return web.json_response(error, status=404)
        if (await request.json()).get("stream"):
            return await stream(request, message_events(text, **said))
        return web.json_response(message(text, **said))

    return script


def speaks_responses(text: str = "Understood.", id_: str = "resp_1") -> Script:
    """A script that answers `/v1/responses`, plain or streaming, and gives a stored one back."""

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and (await request.json()).get("stream"):
            return await stream(request, response_events(text, id_))
        return web.json_response(response(text, id_))

    return script
