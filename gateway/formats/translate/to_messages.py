"""Translates chat completions to Anthropic's messages: the request there, the answer and its stream back. Pure.

Requests that the messages format cannot express (several choices, audio) are refused; parameters that it lacks (seed,
penalties, logprobs) are dropped. Thinking blocks are returned as `reasoning_content`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.errors import BadRequest
from gateway.formats.errors import openai_error
from gateway.formats.json_read import arguments_in, count_in, loaded_object, object_in, objects, strings, text_in
from gateway.formats.translate.call_ids import fitting_id, original_id

__all__ = ["ChatStream", "chat_answer", "chat_error", "messages_request"]

_MAX_TOKENS = 8192  # the default of this field, which the format requires
_SAME_FIELDS: Final = ("model", "stream", "top_p", "top_k", "thinking", "container")
_TIERS: Final = {"auto": "auto", "default": "standard_only"}
_DATA_URL = re.compile(r"^data:([^;,]+)(?:;[^;,]+)*;base64,(.*)$", re.DOTALL)
_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_ERROR_TYPES: Final = {"not_found_error": "invalid_request_error", "request_too_large": "invalid_request_error"}


def messages_request(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the body of a chat completion to that of a messages request. Raises BadRequest."""
    if chat.get("n") not in (None, 1):
        raise BadRequest("this model gives one choice: leave `n` out", param="n")
    body = {name: chat[name] for name in _SAME_FIELDS if chat.get(name) is not None}
    system, messages = _conversation(objects(chat.get("messages")))
    body["messages"] = messages
    if system:
        body["system"] = system
    body["max_tokens"] = chat.get("max_completion_tokens") or chat.get("max_tokens") or _MAX_TOKENS
    if isinstance(chat.get("temperature"), int | float):
        body["temperature"] = min(chat["temperature"], 1.0)  # chat completions allow up to 2
    stop = chat.get("stop")
    if stop:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    tier = _TIERS.get(str(chat.get("service_tier")))
    if tier is not None:
        body["service_tier"] = tier
    user = chat.get("safety_identifier") or chat.get("user")
    if isinstance(user, str):
        body["metadata"] = {"user_id": user}
    return body | _tools(chat) | _format(object_in(chat, "response_format"))


def _tools(chat: Mapping[str, Any]) -> dict[str, Any]:
    """The fields `tools` and `tool_choice`. Raises BadRequest."""
    tools = objects(chat.get("tools"))
    for index, tool in enumerate(tools):
        if not isinstance(tool.get("function"), dict):
            raise BadRequest("this model takes tools of the type function", param=f"tools[{index}].type")
    functions = [tool["function"] for tool in tools] + objects(chat.get("functions"))
    choice = chat.get("tool_choice") or chat.get("function_call")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = object_in(choice, "allowed_tools")
        names = [object_in(tool, "function").get("name") for tool in objects(allowed.get("tools"))]
        functions = [function for function in functions if function.get("name") in names]
        choice = allowed.get("mode")
    if not functions:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(function) for function in functions]}
    if isinstance(choice, dict):
        function = object_in(choice, "function") or choice
        fields["tool_choice"] = {"type": "tool", "name": str(function.get("name"))}
    elif choice in ("auto", "none", "required"):
        fields["tool_choice"] = {"type": "any" if choice == "required" else choice}
    if chat.get("parallel_tool_calls") is False and fields.get("tool_choice", {}).get("type") != "none":
        fields["tool_choice"] = {**fields.get("tool_choice", {"type": "auto"}), "disable_parallel_tool_use": True}
    return fields


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    description = {"description": function["description"]} if isinstance(function.get("description"), str) else {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {"name": function.get("name"), **description, "input_schema": schema}


def _format(response_format: Mapping[str, Any]) -> dict[str, Any]:
    if response_format.get("type") != "json_schema":
        return {}  # for plain `json_object`, OpenAI requires that the prompt asks for JSON
    schema = object_in(response_format, "json_schema").get("schema")
    return {"output_config": {"format": {"type": "json_schema", "schema": schema or {"type": "object"}}}}


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system blocks and the messages; adjacent messages of one role are merged, as the format requires."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        role, path = message.get("role"), f"messages[{index}]"
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), path)
            continue
        is_assistant = role == "assistant"
        blocks = _assistant_blocks(message, path) if is_assistant else _user_blocks(message, path)
        role = "assistant" if is_assistant else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _user_blocks(message: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """The content blocks of a user message or a tool result."""
    if message.get("role") not in ("tool", "function"):
        return _blocks(message.get("content"), path)
    id_ = message.get("tool_call_id") or f"function_{message.get('name')}"
    return [{"type": "tool_result", "tool_use_id": fitting_id(id_), "content": text_in(message.get("content"))}]


def _assistant_blocks(message: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """The content blocks of an assistant message: its text and its tool calls."""
    blocks = _blocks(message.get("content") or message.get("refusal"), path)
    for call in objects(message.get("tool_calls")):
        blocks.append(_call(str(call.get("id")), object_in(call, "function")))
    if isinstance(message.get("function_call"), dict):
        function = message["function_call"]
        blocks.append(_call(f"function_{function.get('name')}", function))
    return blocks


def _call(id_: str, function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = arguments_in(function)
    if arguments is None:  # malformed JSON from the model; the client reports the error to it in the tool result
        arguments = {"arguments": str(function.get("arguments"))}
    return {"type": "tool_use", "id": fitting_id(id_), "name": function.get("name"), "input": arguments}


def _blocks(content: Any, path: str) -> list[dict[str, Any]]:
    """The blocks of a message content, without empty texts, which the format refuses."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for i, part in enumerate(objects(content)) for block in _block(part, f"{path}.content[{i}]")]


def _block(part: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    cache_control = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    kind = part.get("type", "text")
    if kind in ("text", "refusal"):
        text = part.get("text") or part.get("refusal")
        return [{"type": "text", "text": text, **cache_control}] if text else []
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return [{"type": "image", "source": _source(str(url)), **cache_control}]
    if kind == "file" and isinstance(part.get("file"), dict) and part["file"].get("file_data"):
        return [{"type": "document", "source": _source(str(part["file"]["file_data"])), **cache_control}]
    raise BadRequest(f"this model takes text, images and files, not {str(kind)[:40]!r}", param=path)


def _source(url: str) -> dict[str, Any]:
    match = _DATA_URL.match(url)
    if match is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": match[1], "data": match[2]}


def chat_answer(message: Mapping[str, Any], created: int) -> dict[str, Any] | None:
    """Translate a message to a chat completion; None if it is not a message. `created`: seconds since 1970."""
    if not isinstance(message.get("content"), list):
        return None
    blocks = objects(message.get("content"))
    calls = [
        {"id": original_id(block.get("id")), "type": "function", "function": _function(block)}
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    reply: dict[str, Any] = {"role": "assistant", "content": "".join(strings(blocks, "text")) or None}
    thoughts = "\n".join(strings(blocks, "thinking"))
    if thoughts:
        reply["reasoning_content"] = thoughts
    if calls:
        reply["tool_calls"] = calls
    elif reply["content"] is None:
        reply["content"] = ""
    finish = _FINISH.get(str(message.get("stop_reason")), "stop")
    choice = {"index": 0, "message": reply, "logprobs": None, "finish_reason": finish}
    head = _head(message, created, "chat.completion")
    return {**head, "choices": [choice], "usage": _usage(object_in(message, "usage"))}


def _function(block: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()}


def _head(message: Mapping[str, Any], created: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{message.get('id')}", "object": kind, "created": created, "model": message.get("model")}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    prompt, completion = sum(count_in(usage, name) for name in names), count_in(usage, "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": count_in(usage, "cache_read_input_tokens")},
    }


def chat_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """Translate an error of the messages format to OpenAI's."""
    inner = object_in(error, "error")
    kind, message = str(inner.get("type") or "api_error"), str(inner.get("message") or "the upstream failed")
    code = "context_length_exceeded" if "prompt is too long" in message else kind
    return openai_error(message, _ERROR_TYPES.get(kind, kind), code)


class ChatStream:
    """Translates events of the messages format to chunks of chat completions."""

    def __init__(self, created: int, *, has_usage: bool) -> None:
        self._created = created
        self._has_usage = has_usage
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # index of a block -> index of its tool call
        self._empty: set[int] = set()  # blocks of calls without arguments so far
        self._stop_reason: str | None = None
        self._has_ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Translate one event; yields nothing after the end of the stream."""
        if self._has_ended:
            return
        event = loaded_object(data)
        match event.get("type"):
            case "message_start" if isinstance(event.get("message"), dict):
                self._message = event["message"]
                self._usage |= object_in(self._message, "usage")
                yield self._chunk({"role": "assistant", "content": ""})
            case "content_block_start" if isinstance(event.get("content_block"), dict):
                yield from self._start_call(count_in(event, "index"), event["content_block"])
            case "content_block_delta" if isinstance(event.get("delta"), dict):
                yield from self._translate_delta(count_in(event, "index"), event["delta"])
            case "content_block_stop" if count_in(event, "index") in self._empty:
                self._empty.discard(count_in(event, "index"))
                call = {"index": self._calls[count_in(event, "index")], "function": {"arguments": "{}"}}
                yield self._chunk({"tool_calls": [call]})
            case "message_delta":
                reason = object_in(event, "delta").get("stop_reason")
                self._stop_reason = reason if isinstance(reason, str) else self._stop_reason
                self._usage |= {name: count for name, count in object_in(event, "usage").items() if count}
            case "message_stop" if self._stop_reason is not None:
                self._has_ended = True
                yield from self._finish(self._stop_reason)
            case "ping":
                yield b": ping\n\n"
            case "error":
                self._has_ended = True
                yield _event(chat_error(event))

    def _start_call(self, index: Any, block: Mapping[str, Any]) -> Iterator[bytes]:
        if block.get("type") != "tool_use":
            return
        number = self._calls[index] = len(self._calls)
        self._empty.add(index)
        function = {"name": block.get("name"), "arguments": ""}
        call = {"index": number, "id": original_id(block.get("id")), "type": "function", "function": function}
        yield self._chunk({"tool_calls": [call]})

    def _translate_delta(self, index: Any, delta: Mapping[str, Any]) -> Iterator[bytes]:
        if isinstance(delta.get("text"), str):
            yield self._chunk({"content": delta["text"]})
        elif isinstance(delta.get("thinking"), str):
            yield self._chunk({"reasoning_content": delta["thinking"]})
        elif isinstance(delta.get("partial_json"), str) and index in self._calls:
            if not delta["partial_json"]:
                return
            self._empty.discard(index)
            call = {"index": self._calls[index], "function": {"arguments": delta["partial_json"]}}
            yield self._chunk({"tool_calls": [call]})

    def _finish(self, reason: str) -> Iterator[bytes]:
        usage = _usage(self._usage)
        # without `include_usage` there is no separate usage chunk; the last chunk carries the usage instead
        yield self._chunk({}, _FINISH.get(reason, "stop"), None if self._has_usage else usage)
        if self._has_usage:
            head = _head(self._message, self._created, "chat.completion.chunk")
            yield _event({**head, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def _chunk(
        self, delta: Mapping[str, Any], finish_reason: str | None = None, usage: Mapping[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage_field = {"usage": usage} if self._has_usage or usage else {}
        head = _head(self._message, self._created, "chat.completion.chunk")
        return _event({**head, "choices": [choice], **usage_field})


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
