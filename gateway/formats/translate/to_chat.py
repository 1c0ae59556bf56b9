"""Translates Anthropic's messages to chat completions: the request there, the answer and its stream back. Pure.

Tools that only Anthropic's servers run are refused. Thinking blocks of earlier answers are dropped, and so is the
reasoning in the answer, because a thinking block without a signature could not be sent to Anthropic later.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.errors import BadRequest
from gateway.formats.errors import anthropic_error, anthropic_error_type
from gateway.formats.json_read import arguments_in, count_in, loaded_object, object_in, objects, strings, text_in
from gateway.formats.translate.call_ids import fitting_id, original_id

__all__ = ["MessagesStream", "chat_request", "message_answer", "message_error"]

_SAME_FIELDS: Final = ("model", "temperature", "top_p", "top_k")
_TIERS: Final = {"auto": "auto", "standard_only": "default"}
_NEWER_LIMIT = re.compile(r"(?:^|/)(?:gpt-5|o\d)")  # OpenAI models that refuse `max_tokens`
_STOP: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_FAILED: Final = ("error", "abort", "cancelled")  # finish reasons of servers that gave up
_UNSPECIFIC: Final = (503, 504)  # statuses of upstreams that are translated to `api_error`


def chat_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the body of a messages request to that of a chat completion. Raises BadRequest."""
    chat = {name: body[name] for name in _SAME_FIELDS if body.get(name) is not None}
    system = text_in(body.get("system"))
    messages = [{"role": "system", "content": system}] if system else []
    for index, message in enumerate(objects(body.get("messages"))):
        messages += _messages(message, f"messages[{index}]")
    chat["messages"] = messages
    if body.get("max_tokens") is not None:
        limit = "max_completion_tokens" if _NEWER_LIMIT.search(str(body.get("model"))) else "max_tokens"
        chat[limit] = body["max_tokens"]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    tier = _TIERS.get(str(body.get("service_tier")))
    if tier is not None:
        chat["service_tier"] = tier
    user = object_in(body, "metadata").get("user_id")
    if isinstance(user, str):
        chat["user"] = user
    if body.get("stream"):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat | _tools(body) | _format(object_in(object_in(body, "output_config"), "format"))


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields `tools`, `tool_choice` and `parallel_tool_calls`. Raises BadRequest."""
    tools = objects(body.get("tools"))
    if not tools:
        return {}
    for index, tool in enumerate(tools):
        if "input_schema" not in tool:
            kind = str(tool.get("type"))[:40]
            raise BadRequest(f"only Anthropic's own servers run the tool {kind!r}", param=f"tools[{index}].type")
    fields: dict[str, Any] = {"tools": [{"type": "function", "function": _function(tool)} for tool in tools]}
    choice = object_in(body, "tool_choice")
    if choice.get("type") == "tool":
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice.get("type") in ("auto", "none", "any"):
        fields["tool_choice"] = "required" if choice["type"] == "any" else choice["type"]
    if choice.get("disable_parallel_tool_use"):
        fields["parallel_tool_calls"] = False
    return fields


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    description = {"description": tool["description"]} if isinstance(tool.get("description"), str) else {}
    return {"name": tool.get("name"), **description, "parameters": tool["input_schema"]}


def _format(output_format: Mapping[str, Any]) -> dict[str, Any]:
    if output_format.get("type") != "json_schema":
        return {}
    schema = {"name": "answer", "schema": output_format.get("schema") or {"type": "object"}, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _messages(message: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """Translate one message; tool results become messages of their own."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": message.get("role"), "content": content}]
    blocks = objects(content)
    if message.get("role") == "system":
        return [{"role": "system", "content": text_in(content)}]
    if message.get("role") == "assistant":
        return [_assistant_message(blocks)]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    tool_messages = [
        {"role": "tool", "tool_call_id": original_id(block.get("tool_use_id")), "content": _result(block)}
        for block in results
    ]
    media = [item for block in results for item in objects(block.get("content")) if item.get("type") != "text"]
    parts = [part for i, block in enumerate([*media, *blocks]) for part in _part(block, f"{path}.content[{i}]")]
    if not parts:
        return tool_messages
    if all(part["type"] == "text" for part in parts):
        return [*tool_messages, {"role": "user", "content": "\n".join(part["text"] for part in parts)}]
    return [*tool_messages, {"role": "user", "content": parts}]


def _result(block: Mapping[str, Any]) -> str:
    text = text_in(block.get("content"))
    return f"Error: {text}" if block.get("is_error") else text


def _assistant_message(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(strings(blocks, "text")) or None}
    calls = [
        {
            "id": original_id(block.get("id")),
            "type": "function",
            "function": {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()},
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


def _part(block: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    kind = block.get("type")
    source = object_in(block, "source")
    if kind == "text":
        return [{"type": "text", "text": str(block.get("text") or "")}]
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": _url(source, path)}}]
    if kind == "document" and source.get("type") == "text":
        return [{"type": "text", "text": str(source.get("data") or "")}]
    if kind == "document":
        file = {"filename": str(block.get("title") or "document.pdf"), "file_data": _url(source, path)}
        return [{"type": "file", "file": file}]
    if kind in ("tool_result", "thinking", "redacted_thinking"):
        return []
    raise BadRequest(f"this model takes text, images and documents, not {str(kind)[:40]!r}", param=path)


def _url(source: Mapping[str, Any], path: str) -> str:
    if source.get("type") == "url":
        return str(source.get("url"))
    if source.get("type") != "base64":
        raise BadRequest("a source must be base64 or a URL for this model", param=f"{path}.source")
    return f"data:{source.get('media_type')};base64,{source.get('data')}"


def message_answer(completion: Mapping[str, Any]) -> dict[str, Any] | None:
    """Translate a chat completion to a message; None if it has no answer, failed, or calls a tool with malformed
    arguments."""
    choice = next(iter(objects(completion.get("choices"))), {})
    reply = object_in(choice, "message")
    reason = str(choice.get("finish_reason"))
    if not reply or reason in _FAILED:
        return None
    blocks: list[dict[str, Any]] = []
    text = _answer_text(reply.get("content")) or reply.get("refusal")
    if isinstance(text, str) and text:
        blocks.append({"type": "text", "text": text})
    for call in _calls_of(reply):
        function = object_in(call, "function")
        arguments = arguments_in(function)
        if arguments is None:
            if reason == "length":
                continue  # truncated within the call
            return None
        id_ = fitting_id(call.get("id") or f"call_{len(blocks)}_{completion.get('id')}")
        blocks.append({"type": "tool_use", "id": id_, "name": function.get("name"), "input": arguments})
    if reason == "stop" and any(block["type"] == "tool_use" for block in blocks):
        reason = "tool_calls"  # some servers report `stop` if a tool call was required
    ending = {"stop_reason": _STOP.get(reason, "end_turn"), "usage": _usage(object_in(completion, "usage"))}
    return {**_message(completion), "content": blocks, **ending}


def _calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tool calls of a message or delta, including the legacy field `function_call`."""
    calls = objects(message.get("tool_calls"))
    function = message.get("function_call")
    return [{"function": function}] if not calls and isinstance(function, dict) else calls


def _answer_text(content: Any) -> Any:
    """The text of an answer; a list of parts is joined, without reasoning."""
    if not isinstance(content, list):
        return content
    texts = [part if isinstance(part, str) else part.get("text") for part in content if _is_text(part)]
    return "".join(text for text in texts if isinstance(text, str))


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") in ("text", "output_text", None))


def _message(completion: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"msg_{completion.get('id')}",
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _usage(usage: Mapping[str, Any]) -> dict[str, int]:
    cached = count_in(object_in(usage, "prompt_tokens_details"), "cached_tokens")
    prompt, completion = count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
    }


def message_error(status: int, error: Mapping[str, Any]) -> dict[str, Any]:
    """Translate an OpenAI error to Anthropic's format."""
    inner = error.get("error")
    message = inner.get("message") if isinstance(inner, dict) else inner
    kind = "api_error" if status in _UNSPECIFIC else anthropic_error_type(status)
    return anthropic_error(str(message or "the upstream failed"), kind)


@dataclass(slots=True)
class _Call:
    """A tool call that is being streamed: its block here, its id and index at the upstream."""

    block: int
    id: Any
    index: Any
    arguments: str = ""

    @property
    def is_whole(self) -> bool:
        return self.arguments.rstrip().endswith("}") and arguments_in({"arguments": self.arguments}) is not None


class MessagesStream:
    """Translates chunks of chat completions to events of the messages format."""

    def __init__(self) -> None:
        self._has_begun = self._has_ended = False
        self._id: Any = None
        self._open: list[int] = []  # blocks that were started and not stopped
        self._blocks = 0
        self._text: int | None = None  # the open text block
        self._calls: list[_Call] = []
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Translate one event; yields nothing after the end of the stream."""
        if self._has_ended:
            return
        if data == b"[DONE]":
            yield from self.end()
            return
        chunk = loaded_object(data)
        if chunk.get("error"):
            yield _event("error", message_error(500, chunk))
            self._has_ended = True
            return
        if not self._has_begun and chunk:
            self._has_begun = True
            self._id = chunk.get("id")
            yield _event("message_start", {"message": _message(chunk)})
        self._usage = object_in(chunk, "usage") or self._usage
        for choice in objects(chunk.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta")
            if isinstance(delta, dict):
                yield from self._translate_delta(delta)
            if choice.get("finish_reason") and isinstance(choice["finish_reason"], str):
                self._reason = choice["finish_reason"]

    def end(self) -> Iterator[bytes]:
        """The final events, once, if the answer had a finish reason."""
        if self._has_ended or self._reason is None or self._reason in _FAILED:
            return
        self._has_ended = True
        yield from self._close_blocks()
        reason = "tool_calls" if self._reason in ("stop", "function_call") and self._calls else self._reason
        delta = {"stop_reason": _STOP.get(reason, "end_turn"), "stop_sequence": None}
        yield _event("message_delta", {"delta": delta, "usage": _usage(self._usage)})
        yield _event("message_stop", {})

    def _translate_delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        text = _answer_text(delta.get("content")) or delta.get("refusal")
        if isinstance(text, str) and text:
            if self._text is None:
                self._text = self._blocks
                yield self._open_block({"type": "text", "text": ""})
            yield _delta(self._text, {"type": "text_delta", "text": text})
        for piece in _calls_of(delta):
            function = object_in(piece, "function")
            call = self._call_of(piece, function)
            if call is None:
                yield from self._close_blocks() if self._text is not None else ()
                id_ = piece.get("id") or f"call_{len(self._calls)}_{self._id}"
                call = _Call(self._blocks, piece.get("id"), piece.get("index"))
                self._calls.append(call)
                name = function.get("name")
                block: dict[str, Any] = {"type": "tool_use", "id": fitting_id(id_), "name": name, "input": {}}
                yield self._open_block(block)
            arguments = function.get("arguments")
            if arguments:
                text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
                call.arguments += text
                yield _delta(call.block, {"type": "input_json_delta", "partial_json": text})

    def _call_of(self, piece: Mapping[str, Any], function: Mapping[str, Any]) -> _Call | None:
        """The call that a piece continues; None if it starts a new one. A new id starts a call, even if the index is
        not new. Without an id, a name after complete arguments starts one too (some servers give all calls one index).
        """
        index = piece.get("index")
        same_index = [call for call in self._calls if call.index == index] if isinstance(index, int) else self._calls
        if piece.get("id"):
            same_id = [call for call in self._calls if call.id == piece["id"] and index in (None, call.index)]
            if same_id or function.get("name") or not same_index:
                return same_id[-1] if same_id else None
            return same_index[-1]  # some servers give each piece its own id
        if not same_index or (function.get("name") and (same_index[-1].is_whole or not same_index[-1].arguments)):
            return None
        return same_index[-1]

    def _open_block(self, block: Mapping[str, Any]) -> bytes:
        index = self._blocks
        self._blocks += 1
        self._open.append(index)
        return _event("content_block_start", {"index": index, "content_block": block})

    def _close_blocks(self) -> Iterator[bytes]:
        for index in self._open:
            yield _event("content_block_stop", {"index": index})
        self._open.clear()
        self._text = None


def _delta(index: int, delta: Mapping[str, Any]) -> bytes:
    return _event("content_block_delta", {"index": index, "delta": delta})


def _event(name: str, body: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **body}) + b"\n\n"
