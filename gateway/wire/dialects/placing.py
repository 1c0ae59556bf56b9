"""What the formats have in common: reading what every body has, and putting a block where the user speaks. Pure.

Injecting splices text into the bytes of one message; nothing else moves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import orjson

from gateway import splice
from gateway.dialect import UserTurn
from gateway.errors import BadRequest
from gateway.text.media import without_media
from gateway.text.user_text import is_program_request, read_user_parts
from gateway.turn import message_id
from gateway.wire.dialects.conversation import Conversation
from gateway.wire.dialects.think import split_think

__all__ = [
    "conversation_fields",
    "is_task",
    "mapping_of",
    "model_of",
    "put_before",
    "remembered_text",
    "said_in",
    "span_of",
    "stream_of",
    "text_of",
    "texts_of",
]

_TEXTS = ("text", "input_text", "output_text", None)
_FIELDS = ("query", *(field.name for field in fields(Conversation)))
_LONG = 65_536  # characters of a message that is hardly stored whole
_USERS = 3  # messages in a row of which each may show that a program asks
_SAID = 200  # newest messages of a prompt that are looked at, so that none is injected again


def model_of(body: Any) -> str:
    """The model that a body names. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must be a string that names a model", param="model", code="missing_model")
    return model


def stream_of(body: Mapping[str, Any]) -> bool:
    """Whether a stream is wanted. Raises BadRequest."""
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    return bool(stream)


def mapping_of(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def is_task(body: Mapping[str, Any], messages: Sequence[Any], *systems: str | None) -> bool:
    """True for what programs ask on their own account: titles, probes of the context's size, repairs of JSON. Only the
    last message with the role `user` and the first and the last system message are looked at, and `systems`."""
    if "n_ctx" in body:
        return True
    named = [*(system for system in systems if system), *_systems_in(messages)]
    last = _last_users(messages)
    if is_program_request(texts_of(last[0].get("content")) if last else [], named):
        return True
    return any(is_program_request(texts_of(message.get("content")), ()) for message in last[1:])


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list. Images and the like are passed over."""
    return content if isinstance(content, str) else "\n".join(texts_of(content))


def texts_of(content: Any) -> list[str]:
    """The same as a list, part by part. Thoughts, which some models write as parts of their own, are no text."""
    if isinstance(content, str):
        return [content]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if part.get("type") in _TEXTS]
    return [text for text in texts if isinstance(text, str)]


def remembered_text(message: Mapping[str, Any]) -> str:
    """The text of a message as it is remembered. A long one is stored cut, and never equals what is remembered."""
    content = message.get("content")
    if message.get("role") == "user":
        texts = texts_of(content)
        return "" if sum(map(len, texts)) > _LONG else read_user_parts(texts).text
    text = text_of(content)
    return "" if len(text) > _LONG else without_media(split_think(text)[0])


def _last_users(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The latest messages with the role `user`, newest first, as far as they stand in a row; a few at most."""
    latest: list[Mapping[str, Any]] = []
    for message in reversed(messages):
        if message.get("role") == "user":
            latest.append(message)
        elif latest:
            break
        if len(latest) == _USERS:
            break
    return latest


def _systems_in(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of the first and the last system message, part by part."""
    systems = [message for message in messages if message.get("role") in ("system", "developer")]
    return [text for message in systems[:1] + systems[1:][-1:] for text in texts_of(message.get("content"))]


def conversation_fields(conversation: Conversation) -> dict[str, Any]:
    """What a conversation gives to an `Ask`."""
    return {name: getattr(conversation, name) for name in _FIELDS}


def said_in(texts: Sequence[str]) -> frozenset[str]:
    """Ids of the newest of these messages, as they are remembered."""
    return frozenset(message_id(text.strip()) for text in texts[-_SAID:])


def put_before(raw: bytes, turn: UserTurn, block: str, part_type: str) -> bytes:
    """The block before the user's words: in their string, or as a part of its own."""
    span = span_of(raw, *turn.path)
    if turn.index is None:
        is_string = raw[span[0] : span[0] + 1] == b'"'
        return (
            splice.insert_into_string(raw, span, block) if is_string else splice.replace(raw, span, orjson.dumps(block))
        )
    return splice.insert_element(raw, span, turn.index, orjson.dumps({"type": part_type, "text": block}))


def span_of(raw: bytes, *path: str | int) -> splice.Span:
    """Where a value stands. Raises BadRequest."""
    span = splice.find(raw, path)
    if span is None:
        raise BadRequest("the body's JSON cannot be extended", param=".".join(map(str, path)))
    return span
