"""Anthropic's messages format: parse requests, insert memories, read answers, write errors. Pure.

A memory block is inserted into the last user message, after the end of a cached prefix (`cache_control`) and after tool
results, which must come first. Thinking blocks and everything else keep their bytes.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.errors import BadRequest
from gateway.formats import json_splice
from gateway.formats.base import Answer, ParsedRequest
from gateway.formats.conversation import Conversation, ConversationEntry, Role, UserTurn, user_entry
from gateway.formats.errors import anthropic_error, anthropic_error_type
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
from gateway.formats.tool_calls import ids_of
from gateway.text.user_text import Author, read_user_parts

__all__ = ["MessagesFormat", "MessagesReader", "read_messages"]

_CODE_AGENT_ID = re.compile(r"^user_(?P<user>[0-9a-f]+)_account_.*_session_(?P<session>[0-9a-f-]+)$")
_MAX_ANSWER = 256 * 1024  # characters buffered of an answer


def read_messages(body: Any, max_messages: int) -> ParsedRequest:
    """Parse a body of `/v1/messages`. Raises BadRequest with the path of the invalid field."""
    model, stream = model_of(body), stream_of(mapping_of(body))
    messages = _check_messages(body.get("messages"), max_messages)
    user, session = _split_user_id(mapping_of(body.get("metadata")).get("user_id"))
    conversation = Conversation(messages, _read_entry)

    def read_rest() -> dict[str, Any]:
        is_program = is_task(body, messages, *texts_of(body.get("system"))) or body.get("max_tokens") == 1
        return {"is_task": is_program, **current_turn_fields(conversation)}

    return ParsedRequest.deferred(
        read_rest,
        model=model,
        stream=stream,
        conversation=conversation,
        user_hint=user,
        session_hint=session,
        max_tokens=positive(body.get("max_tokens")),
    )


def _check_messages(messages: Any, limit: int) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message", param="messages")
    if len(messages) > limit:
        raise BadRequest(f"`messages` has {len(messages)} entries; at most {limit} are taken", param="messages")
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise BadRequest(f"`{path}` must be an object", param=path)
        if not isinstance(message.get("role"), str):
            raise BadRequest(f"`{path}.role` must be user or assistant", param=f"{path}.role")
        if not isinstance(message.get("content"), str | list):
            raise BadRequest(f"`{path}.content` must be a string or a list of blocks", param=f"{path}.content")
    return messages


def _split_user_id(user_id: Any) -> tuple[str | None, str | None]:
    """Split `metadata.user_id` into user and conversation: coding agents send both in it, as one word or as JSON."""
    if not isinstance(user_id, str) or not user_id:
        return None, None
    match = _CODE_AGENT_ID.match(user_id)
    if match is not None:
        return match["user"], match["session"]
    if user_id.startswith("{"):
        try:
            parts = mapping_of(orjson.loads(user_id))
        except orjson.JSONDecodeError:
            return user_id, None
        user = first_string(parts.get("account_uuid"), parts.get("device_id"))
        return user, first_string(parts.get("session_id"))
    return user_id, None


class MessagesFormat(StandardFormat):
    """The format of `/v1/messages`."""

    messages_field = "messages"

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        system, text = body.get("system"), block.rstrip()
        if isinstance(system, str):
            return json_splice.insert_into_string(raw, span_of(raw, "system"), "\n\n" + text, at_end=True)
        if isinstance(system, list):
            part = orjson.dumps({"type": "text", "text": text})
            return json_splice.insert_element(raw, span_of(raw, "system"), len(system), part)
        if "system" in body:  # null
            return json_splice.replace(raw, span_of(raw, "system"), orjson.dumps(text))
        return json_splice.insert_member(raw, "system", orjson.dumps(text))

    def visible_ids(self, body: Mapping[str, Any], request: ParsedRequest) -> frozenset[str]:
        last = request.user_turns[-1].path[1] if request.user_turns else 0
        messages = [message for index, message in enumerate(body["messages"]) if index <= int(last)]
        return ids_of_texts([remembered_text(message) for message in messages])

    def reader(self) -> "MessagesReader":
        return MessagesReader()

    def end_reader(self) -> "MessagesReader":
        return MessagesReader()

    def read_parsed(self, parsed: Any) -> Answer | None:
        content = parsed.get("content") if isinstance(parsed, dict) else None
        if not isinstance(content, list):
            return None
        blocks = [block for block in content if isinstance(block, dict)]
        thoughts = [block["thinking"] for block in blocks if isinstance(block.get("thinking"), str)]
        text, inline_reasoning = split_think(text_of(blocks))
        usage = mapping_of(parsed.get("usage"))
        return Answer(
            text=text or None,
            finish_reason=first_string(parsed.get("stop_reason")),
            reasoning="\n".join(thoughts) or inline_reasoning,
            has_tool_calls=any(block.get("type") == "tool_use" for block in blocks),
            prompt_tokens=_prompt_tokens(usage),
            completion_tokens=positive(usage.get("output_tokens")) or None,
            cached_tokens=positive(usage.get("cache_read_input_tokens")) or None,
            written_tokens=positive(usage.get("cache_creation_input_tokens")) or None,
            id=first_string(parsed.get("id")),
        )

    def error_body(self, status: int, message: str) -> bytes:
        return orjson.dumps(anthropic_error(message, anthropic_error_type(status)))

    def error_event(self, message: str, code: str) -> bytes:
        error = anthropic_error(message, "timeout_error" if "timeout" in code else "api_error")
        return b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"


def _read_entry(index: int, message: Mapping[str, Any]) -> ConversationEntry:
    role, content = message["role"], message["content"]
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    kinds = {str(block.get("type")) for block in blocks}
    has_result = any(kind.endswith("tool_result") for kind in kinds)
    if role == "assistant":
        if blocks and blocks[-1].get("type") == "text" and "tool_use" not in kinds:
            return ConversationEntry(Role.ANSWER, answer=text_of(content))
        if has_result:  # result of a server-side tool
            return ConversationEntry(Role.RESULT, answer=ids_of(blocks))
        if any(kind.endswith("tool_use") for kind in kinds):
            return ConversationEntry(Role.CALL, answer=ids_of(blocks))
        return ConversationEntry(Role.ANSWER, answer=text_of(content))
    if role != "user":
        return ConversationEntry(Role.OTHER)
    user_text, path = read_user_parts(texts_of(content)), ("messages", index, "content")
    if isinstance(content, str):
        return user_entry(user_text, path)
    if not user_text.text.strip():
        if has_result or user_text.author is not Author.USER:
            return ConversationEntry(Role.RESULT if has_result or user_text.author is Author.TOOL else Role.PROGRAM)
        return (
            ConversationEntry(Role.OTHER)
            if not blocks
            else ConversationEntry(Role.USER, UserTurn("", path, _insertion_index(content)))
        )
    return user_entry(user_text, path, _insertion_index(content))


def _insertion_index(content: list[Any]) -> int:
    """Index after the last end of a cached prefix and after tool results, which must come first."""
    ends = [i for i, block in enumerate(content) if _ends_prefix(block)]
    return ends[-1] + 1 if ends else 0


def _ends_prefix(block: Any) -> bool:
    return isinstance(block, dict) and ("cache_control" in block or block.get("type") == "tool_result")


def _prompt_tokens(usage: Mapping[str, Any]) -> int | None:
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(positive(usage.get(name)) for name in names) or None


class MessagesReader:
    """Incremental reader of an event stream: text, stop reason, usage."""

    def __init__(self) -> None:
        self._events = EventParser()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._size = self._output_size = 0
        self._stop_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self.id: str | None = None
        self._has_tool_calls = False
        self._is_over = False  # nothing after the last event belongs to the answer
        self.is_complete = self.has_error = self.has_events = False

    @property
    def is_mid_event(self) -> bool:
        return self._events.is_mid_event

    def feed(self, chunk: bytes) -> None:
        for event in self._events.feed(chunk):
            self._handle_event(event.data)

    def end(self) -> None:
        for event in self._events.end():
            self._handle_event(event.data)
        if self._stop_reason is not None and not self.has_error:
            self.is_complete = True

    def answer(self) -> Answer:
        # the count in `message_start` is not yet the count of the answer
        completion = positive(self._usage.get("output_tokens")) if self._stop_reason is not None else 0
        text, inline_reasoning = split_think("".join(self._text))
        return Answer(
            text=text or None,
            finish_reason=self._stop_reason,
            reasoning="".join(self._reasoning) or inline_reasoning,
            has_tool_calls=self._has_tool_calls,
            prompt_tokens=_prompt_tokens(self._usage),
            completion_tokens=completion or None,
            cached_tokens=positive(self._usage.get("cache_read_input_tokens")) or None,
            written_tokens=positive(self._usage.get("cache_creation_input_tokens")) or None,
            size=0 if completion else self._output_size,
            id=self.id,
        )

    def _handle_event(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            event = mapping_of(orjson.loads(data))
        except orjson.JSONDecodeError:
            return
        self.has_events = True
        match event.get("type"):
            case "message_start":
                message = mapping_of(event.get("message"))
                self.id = first_string(message.get("id"))
                self._usage |= mapping_of(message.get("usage"))
            case "content_block_start":
                self._has_tool_calls |= mapping_of(event.get("content_block")).get("type") == "tool_use"
            case "content_block_delta":
                delta = mapping_of(event.get("delta"))
                self._append(self._text, delta.get("text"))
                self._append(self._reasoning, delta.get("thinking"))
                self._output_size += sum(len(part) for part in delta.values() if isinstance(part, str))
            case "message_delta":
                self._stop_reason = first_string(mapping_of(event.get("delta")).get("stop_reason"))
                self._usage |= {name: count for name, count in mapping_of(event.get("usage")).items() if count}
            case "message_stop":
                self._is_over, self.is_complete = True, not self.has_error
            case "error":
                self.has_error = True

    def _append(self, buffer: list[str], text: Any) -> None:
        if isinstance(text, str) and text and self._size < _MAX_ANSWER:
            buffer.append(text)
            self._size += len(text)
