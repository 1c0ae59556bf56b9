"""Reading JSON of others without trusting its types. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway import splice

__all__ = ["arguments_in", "count_in", "loaded_object", "object_in", "objects", "positive", "strings", "text_in"]


_MOST = 2**40
_DEEPEST = 200  # levels of what one JSON text may bring into another


def loaded_object(text: Any) -> dict[str, Any]:
    """The object that a text is; an empty one if it is none, or too deep to be written again."""
    try:
        raw = text.encode() if isinstance(text, str) else text or b"{}"
        if raw.count(b"[") + raw.count(b"{") > _DEEPEST and splice.is_deeper(splice.structure(raw), _DEEPEST):
            return {}
        found = orjson.loads(raw)
    except (ValueError, TypeError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def arguments_in(function: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a tool is called with; None if it is no JSON object. Nothing, as many servers write `{}`, is one."""
    text = function.get("arguments")
    if isinstance(text, dict):  # as some servers send them
        return text
    found = loaded_object(text)
    is_empty = "".join(text.split()) in ("", "{}") if isinstance(text, str) else not text
    return found if found or is_empty else None


def object_in(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object of this name; an empty one if there is none."""
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def count_in(holder: Mapping[str, Any], name: str) -> int:
    """The whole number of this name; 0 if there is none."""
    return positive(holder.get(name))


def positive(value: Any) -> int:
    """The value if it is a number of things that there may be, tokens say, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST else 0


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none if it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(items: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """The strings of this name, where there are any."""
    return [item[name] for item in items if isinstance(item.get(name), str)]


def text_in(content: Any) -> str:
    """The text of a content: a string, or the texts of its parts."""
    return content if isinstance(content, str) else "\n".join(strings(objects(content), "text"))
