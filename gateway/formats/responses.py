"""OpenAI's responses format: parse requests, insert memories, read answers, write errors. Pure.

`input` is a string or a list of items. With `previous_response_id` or a `conversation` the upstream stores the earlier
messages: the request has only the new ones, and a request without a user message (tool results only) needs no memories,
since the upstream already has those of its turn.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.errors import BadRequest
from gateway.formats import json_splice
from gateway.formats.base import Answer, ParsedRequest
from gateway.formats.conversation import Conversation, ConversationEntry, Role, UserTurn, user_entry
from gateway.formats.errors import openai_error_body
from gateway.formats.json_read import positive
from gateway.formats.placing import (
    StandardFormat,
    current_turn_fields,
    ids_of_texts,
    is_task,
    mapping_of,
    model_of,
    remembered_text,
    span_of,
    stream_of,
    text_of,
    texts_of,
)
from gateway.formats.readers import first_string
from gateway.formats.sse import EventParser
from gateway.formats.think import split_think
from gateway.text.user_text import read_user_parts, read_user_text

__all__ = ["ResponsesFormat", "ResponsesReader", "conversation_of", "read_response"]

_MAX_ANSWER = 256 * 1024  # characters buffered of an answer
_CALLS: Final = frozenset(
    "function_call custom_tool_call computer_call local_shell_call shell_call apply_patch_call tool_search_call".split()
)
_END_EVENTS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


def read_response(body: Any, max_items: int) -> ParsedRequest:
    """Parse a body of `/v1/responses`. Raises BadRequest with the path of the invalid field."""
    model, stream = model_of(body), stream_of(mapping_of(body))
    input_value = _check_items(body.get("input"), max_items)
    items = _to_items(input_value)
    metadata, conversation = mapping_of(body.get("metadata")), body.get("conversation")
    client = mapping_of(body.get("client_metadata"))
    messages = Conversation(items, _read_text if isinstance(input_value, str) else _read_entry)
    instructions = first_string(body.get("instructions"))
    return ParsedRequest.deferred(
        lambda: {"is_task": is_task(body, items, instructions), **current_turn_fields(messages)},
        model=model,
        stream=stream,
        conversation=messages,
        user_hint=first_string(metadata.get("user_id"), body.get("safety_identifier"), body.get("user")),
        session_hint=first_string(
            metadata.get("session_id"),
            metadata.get("conversation_id"),
            conversation,
            mapping_of(conversation).get("id"),
            client.get("session_id"),
            client.get("conversation_id"),
            body.get("prompt_cache_key"),
        ),
        max_tokens=positive(body.get("max_output_tokens")),
    )


def conversation_of(body: Any) -> str | None:
    """Return the id of the conversation stored at the upstream, if the body has one."""
    conversation = mapping_of(body).get("conversation")
    return first_string(conversation, mapping_of(conversation).get("id"))


def _to_items(value: Any) -> list[dict[str, Any]]:
    """Return the items of an input; a string becomes a user message. Empty without input (the prompt may be stored)."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return value or []


def _check_items(items: Any, limit: int) -> Any:
    """Validate the input and return it unchanged. Raises BadRequest."""
    if items is None or isinstance(items, str):
        return items
    if not isinstance(items, list):
        raise BadRequest("`input` must be a string or a list of items", param="input")
    if len(items) > limit:
        raise BadRequest(f"`input` has {len(items)} items; at most {limit} are taken", param="input")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadRequest(f"`input[{index}]` must be an object", param=f"input[{index}]")
    return items


class ResponsesFormat(StandardFormat):
    """The format of `/v1/responses`."""

    messages_field = "input"
    text_part = "input_text"

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        text = block.rstrip()
        if isinstance(body.get("instructions"), str):
            return json_splice.insert_into_string(raw, span_of(raw, "instructions"), "\n\n" + text, at_end=True)
        span = json_splice.find(raw, ("instructions",))
        if span is not None:
            return json_splice.replace(raw, span, orjson.dumps(text))
        return json_splice.insert_member(raw, "instructions", orjson.dumps(text))

    def visible_ids(self, body: Mapping[str, Any], request: ParsedRequest) -> frozenset[str]:
        return ids_of_texts([remembered_text(item) for item in _to_items(body.get("input"))])

    def reader(self) -> "ResponsesReader":
        return ResponsesReader()

    def end_reader(self) -> "ResponsesReader":
        return ResponsesReader()

    def read_parsed(self, parsed: Any) -> Answer | None:
        if not isinstance(parsed, dict) or not isinstance(parsed.get("output"), list):
            return None
        return _read_answer(parsed, "")

    def error_body(self, status: int, message: str) -> bytes:
        return openai_error_body(message, "upstream_error", "upstream_error")

    def error_event(self, message: str, code: str) -> bytes:
        error = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"


def _read_entry(index: int, item: Mapping[str, Any]) -> ConversationEntry:
    kind, role, content = str(item.get("type", "message")), item.get("role"), item.get("content")
    if kind != "message":
        if kind.endswith("_output"):
            return ConversationEntry(Role.RESULT)
        if kind == "image_generation_call":
            return ConversationEntry(Role.ANSWER, answer=str(item.get("id") or ""))
        is_call = kind in _CALLS  # other calls are server-side, and an answer follows them
        return (
            ConversationEntry(Role.CALL, answer=str(item.get("call_id") or item.get("id") or ""))
            if is_call
            else ConversationEntry(Role.OTHER)
        )
    if role == "assistant":
        return ConversationEntry(Role.ANSWER, answer=text_of(content))
    if role != "user":
        return ConversationEntry(Role.OTHER)
    path = ("input", index, "content")
    if isinstance(content, str):
        return user_entry(read_user_text(content), path)
    parts = content if isinstance(content, list) else []
    texts = [i for i, part in enumerate(parts) if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if not texts:
        return ConversationEntry(Role.USER, UserTurn("", path, 0)) if parts else ConversationEntry(Role.OTHER)
    return user_entry(read_user_parts(texts_of(content)), (*path, texts[0], "text"))


def _read_text(index: int, item: Mapping[str, Any]) -> ConversationEntry:
    """Classify the only message of an input that is a string."""
    return user_entry(read_user_text(item["content"]), ("input",))


def _read_answer(response: Mapping[str, Any], streamed: str) -> Answer:
    """Parse a complete response; its text is `streamed` if the output is empty, as some servers leave it."""
    output = response.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    texts = [text_of(item.get("content")) for item in items if item.get("type") == "message"]
    text, inline_reasoning = split_think("\n".join(text for text in texts if text) or streamed)
    summaries = [_read_summary(item) for item in items if item.get("type") == "reasoning"]
    usage = mapping_of(response.get("usage"))
    reason = first_string(mapping_of(response.get("incomplete_details")).get("reason"), response.get("status"))
    return Answer(
        text=text or None,
        finish_reason=reason,
        reasoning="\n".join(summaries) or inline_reasoning,
        has_tool_calls=any(str(item.get("type")).endswith("_call") for item in items),
        prompt_tokens=positive(usage.get("input_tokens")) or None,
        completion_tokens=positive(usage.get("output_tokens")) or None,
        cached_tokens=positive(mapping_of(usage.get("input_tokens_details")).get("cached_tokens")) or None,
        id=first_string(response.get("id")),
    )


def _read_summary(item: Mapping[str, Any]) -> str:
    summary = item.get("summary")
    parts = summary if isinstance(summary, list) else []
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


class ResponsesReader:
    """Incremental reader of an event stream: text, status, usage."""

    def __init__(self) -> None:
        self._events = EventParser()
        self._text: list[str] = []
        self._size = 0
        self._response: Mapping[str, Any] = {}
        self._is_over = False  # nothing after the last event belongs to the answer
        self.is_complete = self.has_error = self.has_events = False

    @property
    def is_mid_event(self) -> bool:
        return self._events.is_mid_event

    @property
    def id(self) -> str | None:
        return first_string(self._response.get("id"))

    def feed(self, chunk: bytes) -> None:
        for event in self._events.feed(chunk):
            self._handle_event(event.data)

    def end(self) -> None:
        for event in self._events.end():
            self._handle_event(event.data)

    def answer(self) -> Answer:
        return _read_answer(self._response, "".join(self._text))

    def _handle_event(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            event = mapping_of(orjson.loads(data))
        except orjson.JSONDecodeError:
            return
        self.has_events = True
        kind, delta = event.get("type"), event.get("delta")
        if kind == "response.output_text.delta" and isinstance(delta, str) and self._size < _MAX_ANSWER:
            self._text.append(delta)
            self._size += len(delta)
        elif kind in _END_EVENTS or kind == "response.created":
            self._response = mapping_of(event.get("response"))
            self._is_over = kind in _END_EVENTS
            self.is_complete = self._is_over and not self.has_error
        elif kind == "error":
            self.has_error = True
