"""Anthropic's messages format, read and extended. Pure.

A block goes into the message in which the user last spoke, behind what ends a cached prefix (`cache_control`) and
behind what tools answered, which must come first. Thinking blocks and everything else keep their bytes.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway import splice
from gateway.dialect import Layout, ToolCall, UserTurn
from gateway.errors import BadRequest
from gateway.sse import EventParser
from gateway.text.user_text import Author, read_user_parts
from gateway.turn import Answer, Ask
from gateway.upstream.translate.json_parts import positive
from gateway.wire.dialects.calls import calls_after, ids_of
from gateway.wire.dialects.conversation import Entry, Role, read_conversation, user_entry
from gateway.wire.dialects.placing import (
    conversation_fields,
    is_task,
    mapping_of,
    model_of,
    put_before,
    remembered_text,
    said_in,
    span_of,
    stream_of,
    text_of,
    texts_of,
)
from gateway.wire.dialects.readers import first_string
from gateway.wire.dialects.think import split_think

__all__ = ["MessagesDialect", "MessagesReader", "anthropic_type", "error_body", "read_messages"]

_SIGNED_IN = re.compile(r"^user_(?P<user>[0-9a-f]+)_account_.*_session_(?P<session>[0-9a-f-]+)$")
_MAX_ANSWER = 256 * 1024  # characters of an answer that are kept
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def read_messages(body: Any, max_messages: int) -> Ask:
    """What a body of `/v1/messages` asks. Raises BadRequest with the path of what is wrong."""
    model, stream = model_of(body), stream_of(mapping_of(body))
    messages = _checked(body.get("messages"), max_messages)
    user, session = _who(mapping_of(body.get("metadata")).get("user_id"))
    return Ask(
        model=model,
        stream=stream,
        is_task=is_task(body, messages, *texts_of(body.get("system"))) or body.get("max_tokens") == 1,
        user_hint=user,
        session_hint=session,
        max_tokens=positive(body.get("max_tokens")),
        **conversation_fields(read_conversation(messages, _entry)),
    )


def _checked(messages: Any, limit: int) -> list[dict[str, Any]]:
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


def _who(user_id: Any) -> tuple[str | None, str | None]:
    """User and conversation in `metadata.user_id`: coding agents put both in there, as one word or as JSON."""
    if not isinstance(user_id, str) or not user_id:
        return None, None
    match = _SIGNED_IN.match(user_id)
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


class MessagesDialect:
    """`/v1/messages`."""

    layout: Layout | None = None
    placement: str | None = None
    messages_field = "messages"

    def user_turns(self, body: Mapping[str, Any]) -> list[UserTurn]:
        entries = (_entry(index, message) for index, message in enumerate(body["messages"]))
        return [entry.turn for entry in entries if entry.turn is not None]

    def put(self, raw: bytes, turn: UserTurn, block: str) -> bytes:
        return put_before(raw, turn, block, "text")

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        system, text = body.get("system"), block.rstrip()
        if isinstance(system, str):
            return splice.insert_into_string(raw, span_of(raw, "system"), "\n\n" + text, at_end=True)
        if isinstance(system, list):
            part = orjson.dumps({"type": "text", "text": text})
            return splice.insert_element(raw, span_of(raw, "system"), len(system), part)
        if "system" in body:  # null
            return splice.replace(raw, span_of(raw, "system"), orjson.dumps(text))
        return splice.insert_member(raw, "system", orjson.dumps(text))

    def said(self, body: Mapping[str, Any]) -> frozenset[str]:
        turns = self.user_turns(body)
        last = turns[-1].path[1] if turns else 0
        messages = [message for index, message in enumerate(body["messages"]) if index <= int(last)]
        return said_in([remembered_text(message) for message in messages])

    def calls(self, body: Mapping[str, Any]) -> list[ToolCall]:
        return calls_after(self.user_turns(body), body.get(self.messages_field))

    def reader(self) -> "MessagesReader":
        return MessagesReader()

    def end_reader(self) -> "MessagesReader":
        return MessagesReader()

    def read_plain(self, body: bytes) -> Answer | None:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        content = parsed.get("content") if isinstance(parsed, dict) else None
        if not isinstance(content, list):
            return None
        blocks = [block for block in content if isinstance(block, dict)]
        thoughts = [block["thinking"] for block in blocks if isinstance(block.get("thinking"), str)]
        text, thought = split_think(text_of(blocks))
        usage = mapping_of(parsed.get("usage"))
        return Answer(
            text=text or None,
            finish_reason=first_string(parsed.get("stop_reason")),
            reasoning="\n".join(thoughts) or thought,
            has_tool_calls=any(block.get("type") == "tool_use" for block in blocks),
            prompt_tokens=_prompt_tokens(usage),
            completion_tokens=positive(usage.get("output_tokens")) or None,
            cached_tokens=positive(usage.get("cache_read_input_tokens")) or None,
            written_tokens=positive(usage.get("cache_creation_input_tokens")) or None,
            id=first_string(parsed.get("id")),
        )

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(message, anthropic_type(status))

    def error_event(self, message: str, code: str) -> bytes:
        return (
            b"event: error\ndata: "
            + error_body(message, "timeout_error" if "timeout" in code else "api_error")
            + b"\n\n"
        )


def error_body(message: str, type_: str) -> bytes:
    """An error as Anthropic writes it."""
    return orjson.dumps({"type": "error", "error": {"type": type_, "message": message}})


def anthropic_type(status: int) -> str:
    """The type of an error by its status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _entry(index: int, message: Mapping[str, Any]) -> Entry:
    role, content = message["role"], message["content"]
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    kinds = {str(block.get("type")) for block in blocks}
    has_result = any(kind.endswith("tool_result") for kind in kinds)
    if role == "assistant":
        if blocks and blocks[-1].get("type") == "text" and "tool_use" not in kinds:
            return Entry(Role.ANSWER, answer=text_of(content))
        if has_result:  # of a tool that the server runs
            return Entry(Role.RESULT, answer=ids_of(blocks))
        if any(kind.endswith("tool_use") for kind in kinds):
            return Entry(Role.CALL, answer=ids_of(blocks))
        return Entry(Role.ANSWER, answer=text_of(content))
    if role != "user":
        return Entry(Role.OTHER)
    said, path = read_user_parts(texts_of(content)), ("messages", index, "content")
    if isinstance(content, str):
        return user_entry(said, path)
    if not said.text.strip():
        if has_result or said.author is not Author.USER:
            return Entry(Role.RESULT if has_result or said.author is Author.TOOL else Role.PROGRAM)
        return Entry(Role.OTHER) if not blocks else Entry(Role.USER, UserTurn("", path, _behind_prefix(content)))
    return user_entry(said, path, _behind_prefix(content))


def _behind_prefix(content: list[Any]) -> int:
    """The place behind what ends a cached prefix, and behind what tools answered, which must come first."""
    ends = [i for i, block in enumerate(content) if _ends_prefix(block)]
    return ends[-1] + 1 if ends else 0


def _ends_prefix(block: Any) -> bool:
    return isinstance(block, dict) and ("cache_control" in block or block.get("type") == "tool_result")


def _prompt_tokens(usage: Mapping[str, Any]) -> int | None:
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(positive(usage.get(name)) for name in names) or None


class MessagesReader:
    """Reads along a stream of events: the text, how it ended, its usage."""

    def __init__(self) -> None:
        self._events = EventParser()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._size = self._said = 0
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
            self._take(event.data)

    def end(self) -> None:
        for event in self._events.end():
            self._take(event.data)
        if self._stop_reason is not None and not self.has_error:
            self.is_complete = True

    def answer(self) -> Answer:
        # what is told at the beginning is not yet what was said
        completion = positive(self._usage.get("output_tokens")) if self._stop_reason is not None else 0
        text, thought = split_think("".join(self._text))
        return Answer(
            text=text or None,
            finish_reason=self._stop_reason,
            reasoning="".join(self._reasoning) or thought,
            has_tool_calls=self._has_tool_calls,
            prompt_tokens=_prompt_tokens(self._usage),
            completion_tokens=completion or None,
            cached_tokens=positive(self._usage.get("cache_read_input_tokens")) or None,
            written_tokens=positive(self._usage.get("cache_creation_input_tokens")) or None,
            size=0 if completion else self._said,
            id=self.id,
        )

    def _take(self, data: bytes) -> None:
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
                self._keep(self._text, delta.get("text"))
                self._keep(self._reasoning, delta.get("thinking"))
                self._said += sum(len(part) for part in delta.values() if isinstance(part, str))
            case "message_delta":
                self._stop_reason = first_string(mapping_of(event.get("delta")).get("stop_reason"))
                self._usage |= {name: count for name, count in mapping_of(event.get("usage")).items() if count}
            case "message_stop":
                self._is_over, self.is_complete = True, not self.has_error
            case "error":
                self.has_error = True

    def _keep(self, kept: list[str], text: Any) -> None:
        if isinstance(text, str) and text and self._size < _MAX_ANSWER:
            kept.append(text)
            self._size += len(text)
