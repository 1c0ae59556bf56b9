"""What the formats have in common: reading what every body has, and putting a block where the user speaks. Pure.

Injecting splices text into the bytes of one message; nothing else moves.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway import splice
from gateway.dialect import UserTurn
from gateway.errors import BadRequest
from gateway.turn import message_id

__all__ = ["is_chore", "mapping_of", "model_of", "put_before", "said_in", "span_of", "stream_of"]

_SAID = 200  # newest messages of a prompt that are looked at, so that none is injected again
_CHORES = re.compile(
    r"^\s*(### Task:\s*\n|Generate a (concise|short|brief)|Create a (concise|short|brief)[^\n]{0,40}title"
    r"|Provide a concise,? [^\n]{0,30}title|Summari[sz]e (this|the) (chat|conversation)[^\n]{0,60}title"
    r"|Please write a [^\n]{0,20}word title"
    r"|Correct your JSON ONLY RESPONSE|Recall the function correctly, fix the errors"
    r"|Please generate a title|请(为|給|给)[^\n]{0,20}(对话|聊天)[^\n]{0,20}标题)",
    re.IGNORECASE,
)


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


def is_chore(body: Mapping[str, Any], query: str) -> bool:
    """True for what programs ask on their own account: titles, probes of the context's size, repairs of JSON."""
    return "n_ctx" in body or _CHORES.match(query[:400]) is not None


def said_in(texts: Sequence[str]) -> frozenset[str]:
    """Ids of the newest of these messages."""
    return frozenset(message_id(text) for text in texts[-_SAID:])


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
