"""Helpers shared by the formats: parsing common fields, and inserting a block before the user's text. Pure.

Injection splices text into the bytes of one message; all other bytes stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import orjson

from gateway.errors import BadRequest
from gateway.formats import json_splice
from gateway.formats.base import Answer, Layout
from gateway.formats.conversation import Conversation, CurrentTurn, UserTurn, read_current_turn
from gateway.formats.think import split_think
from gateway.memory.record import message_id
from gateway.text.media import without_media
from gateway.text.user_text import is_program_request, read_user_parts

__all__ = [
    "StandardFormat",
    "current_turn_fields",
    "ids_of_texts",
    "is_task",
    "mapping_of",
    "model_of",
    "put_before",
    "remembered_text",
    "span_of",
    "stream_of",
    "text_of",
    "texts_of",
]

_TEXT_TYPES = ("text", "input_text", "output_text", None)
_FIELDS = ("query", *(field.name for field in fields(CurrentTurn)))
_MAX_CHARACTERS = 65_536  # characters; longer messages are rarely stored whole
_MAX_USER_MESSAGES = 3  # consecutive user messages that are checked for texts of programs
_MAX_MESSAGES = 200  # newest messages of a prompt that are compared, so that none is injected again


def model_of(body: Any) -> str:
    """Return the model of a body. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must be a string that names a model", param="model", code="missing_model")
    return model


def stream_of(body: Mapping[str, Any]) -> bool:
    """True if a body requests a stream. Raises BadRequest."""
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    return bool(stream)


def mapping_of(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty mapping."""
    return value if isinstance(value, dict) else {}


def is_task(body: Mapping[str, Any], messages: Sequence[Any], *systems: str | None) -> bool:
    """True for requests that programs generate: titles, probes of the context size, JSON repairs.

    Only the latest messages with the role `user`, the first and the last system message, and `systems` are checked.
    """
    if "n_ctx" in body:
        return True
    system_texts = [*(system for system in systems if system), *_system_texts(messages)]
    latest = _latest_user_messages(messages)
    if is_program_request(texts_of(latest[0].get("content")) if latest else [], system_texts):
        return True
    return any(is_program_request(texts_of(message.get("content")), ()) for message in latest[1:])


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or the text parts of a list. Images are skipped."""
    return content if isinstance(content, str) else "\n".join(texts_of(content))


def texts_of(content: Any) -> list[str]:
    """Return the text parts of a message's content. Reasoning parts, which some models write, are excluded."""
    if isinstance(content, str):
        return [content]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if part.get("type") in _TEXT_TYPES]
    return [text for text in texts if isinstance(text, str)]


def remembered_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message as it is stored; "" for long ones, which are stored truncated and so never match."""
    content = message.get("content")
    if message.get("role") == "user":
        texts = texts_of(content)
        return "" if sum(map(len, texts)) > _MAX_CHARACTERS else read_user_parts(texts).text
    text = text_of(content)
    return "" if len(text) > _MAX_CHARACTERS else without_media(split_think(text)[0])


def _latest_user_messages(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the latest consecutive messages with the role `user`, newest first; a few at most."""
    latest: list[Mapping[str, Any]] = []
    for message in reversed(messages):
        if message.get("role") == "user":
            latest.append(message)
        elif latest:
            break
        if len(latest) == _MAX_USER_MESSAGES:
            break
    return latest


def _system_texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the text parts of the first and the last system message."""
    systems = [message for message in messages if message.get("role") in ("system", "developer")]
    return [text for message in systems[:1] + systems[1:][-1:] for text in texts_of(message.get("content"))]


def current_turn_fields(conversation: Conversation) -> dict[str, Any]:
    """Return the fields of a `ParsedRequest` that come from the messages of its current turn."""
    current_turn = read_current_turn(conversation)
    return {name: getattr(current_turn, name) for name in _FIELDS}


def ids_of_texts(texts: Sequence[str]) -> frozenset[str]:
    """Return the ids under which the newest of these messages are stored."""
    return frozenset(message_id(text.strip()) for text in texts[-_MAX_MESSAGES:])


class StandardFormat:
    """The parts that the formats of chats have in common. `text_part`: the type of a part with text."""

    has_own_prompt = False
    layout: Layout | None = None
    placement: str | None = None
    text_part = "text"

    def put(self, raw: bytes, turn: UserTurn, block: str) -> bytes:
        return put_before(raw, turn, block, self.text_part)

    def read_plain(self, body: bytes) -> Answer | None:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return self.read_parsed(parsed)

    def read_parsed(self, parsed: Any) -> Answer | None:
        """The answer in a parsed body; None if it is not one."""
        raise NotImplementedError


def put_before(raw: bytes, turn: UserTurn, block: str, part_type: str) -> bytes:
    """Insert the block before the user's text: into its string, or as a separate part."""
    span = span_of(raw, *turn.path)
    if turn.index is None:
        is_string = raw[span[0] : span[0] + 1] == b'"'
        return (
            json_splice.insert_into_string(raw, span, block)
            if is_string
            else json_splice.replace(raw, span, orjson.dumps(block))
        )
    return json_splice.insert_element(raw, span, turn.index, orjson.dumps({"type": part_type, "text": block}))


def span_of(raw: bytes, *path: str | int) -> json_splice.Span:
    """Return the byte span of a value. Raises BadRequest."""
    span = json_splice.find(raw, path)
    if span is None:
        raise BadRequest("the body's JSON cannot be extended", param=".".join(map(str, path)))
    return span
