"""The chat-completions format: parse requests, insert memories, read answers, write errors. Pure; the only module that
reads the fields of its bodies.

A body is read, not validated against a model: unknown fields pass through unchanged. Injection splices text into the
bytes of one message; all other bytes stay as they are.
"""

from collections.abc import Mapping
from typing import Any

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
from gateway.formats.readers import ChatReader, EndReader, first_choice, first_string, thoughts_in, usage_of
from gateway.formats.think import split_think
from gateway.formats.tool_calls import ids_of
from gateway.text.user_text import read_user_parts, read_user_text

__all__ = ["ChatFormat", "ChatReader", "EndReader", "read_chat", "text_of"]

_CONTENT = (str, list, type(None))
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def read_chat(body: Any, max_messages: int) -> ParsedRequest:
    """Parse a chat request. Raises BadRequest with the path of the invalid field."""
    model, stream = model_of(body), stream_of(mapping_of(body))
    messages = _check_messages(body.get("messages"), max_messages)
    metadata = mapping_of(body.get("metadata"))
    conversation = Conversation(messages, _read_entry)
    return ParsedRequest.deferred(
        lambda: {"is_task": is_task(body, messages), **current_turn_fields(conversation)},
        model=model,
        stream=stream,
        conversation=conversation,
        user_hint=first_string(metadata.get("user_id"), body.get("safety_identifier"), body.get("user")),
        session_hint=first_string(
            metadata.get("session_id"), metadata.get("conversation_id"), body.get("prompt_cache_key")
        ),
        max_tokens=positive(body.get("max_completion_tokens")) or positive(body.get("max_tokens")),
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
            raise BadRequest(f"`{path}.role` must be one of {', '.join(_ROLES)}", param=f"{path}.role")
        if not isinstance(message.get("content"), _CONTENT):
            raise BadRequest(f"`{path}.content` must be a string or a list of parts", param=f"{path}.content")
    return messages


class ChatFormat(StandardFormat):
    """The format of `/v1/chat/completions`, and of the responses of `/v1/completions`."""

    messages_field = "messages"

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        messages = body["messages"]
        index = next((i for i, message in enumerate(messages) if _is_system_text(message)), None)
        if index is None:
            message = orjson.dumps({"role": "system", "content": block.rstrip()})
            return json_splice.insert_first(raw, span_of(raw, "messages"), message)
        content, text = messages[index]["content"], "\n\n" + block.rstrip()
        parts = _text_indices(content) if isinstance(content, list) else []
        if isinstance(content, list) and not parts:
            part = orjson.dumps({"type": "text", "text": text})
            return json_splice.insert_first(raw, span_of(raw, "messages", index, "content"), part)
        path = ("content", parts[-1], "text") if parts else ("content",)
        return json_splice.insert_into_string(raw, span_of(raw, "messages", index, *path), text, at_end=True)

    def visible_ids(self, body: Mapping[str, Any], request: ParsedRequest) -> frozenset[str]:
        messages = body["messages"]
        last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=0)
        return ids_of_texts([remembered_text(message) for message in messages[: last + 1]])

    def reader(self) -> "ChatReader":
        return ChatReader()

    def end_reader(self) -> "EndReader":
        return EndReader()

    def read_parsed(self, parsed: Any) -> Answer | None:
        choice = first_choice(parsed)
        if choice is None:
            return None
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        usage = usage_of(parsed)
        text, inline_reasoning = split_think(text_of(message.get("content")) or first_string(choice.get("text")) or "")
        return Answer(
            text=text or None,
            finish_reason=first_string(choice.get("finish_reason")),
            reasoning=first_string(
                message.get("reasoning_content"),
                message.get("reasoning"),
                thoughts_in(message.get("content")),
                inline_reasoning,
            ),
            has_tool_calls=bool(message.get("tool_calls")),
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            cached_tokens=usage.cached,
            id=first_string(parsed.get("id")),
        )

    def error_body(self, status: int, message: str) -> bytes:
        return openai_error_body(message, "upstream_error", "upstream_error")

    def error_event(self, message: str, code: str) -> bytes:
        return b"data: " + openai_error_body(message, "upstream_error", code) + b"\n\n"


def _is_system_text(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer") and isinstance(message.get("content"), str | list)


def _read_entry(index: int, message: Mapping[str, Any]) -> ConversationEntry:
    role, content = message["role"], message.get("content")
    if role == "assistant":
        calls = message.get("tool_calls")
        if calls or message.get("function_call"):
            return ConversationEntry(Role.CALL, answer=ids_of(calls) or text_of(content))
        return ConversationEntry(Role.ANSWER, answer=text_of(content))
    if role in ("tool", "function"):
        return ConversationEntry(Role.RESULT)
    if role != "user":
        return ConversationEntry(Role.OTHER)
    path = ("messages", index, "content")
    if not isinstance(content, list):
        return user_entry(read_user_text(content or ""), path)
    parts = _text_indices(content)
    if not parts:
        return ConversationEntry(Role.USER, UserTurn("", path, 0))
    return user_entry(read_user_parts(texts_of(content)), (*path, parts[0], "text"))


def _text_indices(content: list[Any]) -> list[int]:
    """Indices of the parts that have text."""
    return [i for i, part in enumerate(content) if isinstance(part, dict) and isinstance(part.get("text"), str)]
