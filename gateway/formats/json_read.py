"""Reads untrusted JSON without relying on the types of its values. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.formats import json_splice

__all__ = [
    "arguments_in",
    "count_in",
    "loaded_object",
    "looks_like_json",
    "object_in",
    "objects",
    "positive",
    "strings",
    "text_in",
]


_MAX_COUNT = 2**40
_MAX_DEPTH = 200  # nesting levels of an object that is embedded in another JSON text


def loaded_object(text: Any) -> dict[str, Any]:
    """Parse a JSON object; an empty one if the text is not an object, or too deeply nested to be serialised again."""
    try:
        raw = text.encode() if isinstance(text, str) else text or b"{}"
        if raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH and json_splice.is_deeper(
            json_splice.structure(raw), _MAX_DEPTH
        ):
            return {}
        value = orjson.loads(raw)
    except (ValueError, TypeError, AttributeError):
        return {}
    return value if isinstance(value, dict) else {}


def looks_like_json(body: bytes) -> bool:
    """True for JSON, also as lenient parsers accept it: lone surrogates, NaN, a byte order mark, invalid UTF-8. A body
    that the strict parser rejects takes ten times as long."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            json.loads(body.decode("utf-8-sig", "replace"), strict=False)
        except (ValueError, RecursionError):
            return False
    return True


def arguments_in(function: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a tool call; None if they are not a JSON object. Empty text, which many servers send instead of
    `{}`, counts as one."""
    text = function.get("arguments")
    if isinstance(text, dict):  # some servers send an object instead of a JSON text
        return text
    arguments = loaded_object(text)
    is_empty = "".join(text.split()) in ("", "{}") if isinstance(text, str) else not text
    return arguments if arguments or is_empty else None


def object_in(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under this key; an empty one if there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def count_in(holder: Mapping[str, Any], name: str) -> int:
    """The positive integer under this key; 0 if there is none."""
    return positive(holder.get(name))


def positive(value: Any) -> int:
    """The value if it is a plausible positive count, of tokens for example, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_COUNT else 0


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; empty if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(items: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """The string values under this key; items without one are skipped."""
    return [item[name] for item in items if isinstance(item.get(name), str)]


def text_in(content: Any) -> str:
    """The text of a message content: the string, or the texts of its parts joined by newlines."""
    return content if isinstance(content, str) else "\n".join(strings(objects(content), "text"))
