"""References of a body to what an upstream keeps: responses, conversations, files, vector stores, containers. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.errors import BadRequest

__all__ = ["check_unambiguous", "may_refer_to_state", "owned_references", "refers_to_state"]

_IDS: Final = frozenset(
    "file_id file_ids vector_store_id vector_store_ids container container_id cached_content".split()
)
_NAMES: Final = re.compile(
    rb'"(?:file_ids?|vector_store_ids?|container(?:_id)?|skill_id|cached_content|item_reference|prompt'
    rb'|previous_response_id|conversation)"|\\u00[4-7]'
)
"""A name of a reference, or an ASCII letter that is written as an escape, as none but a disguised name is."""
_UNREAD: Final = frozenset(("metadata", "arguments", "parameters", "input_schema", "properties", "schema"))
"""Fields whose contents are of the client's own shape."""
_DEEPEST = 64


def owned_references(body: Mapping[str, Any]) -> list[str]:
    """The responses and conversations that a body continues. Raises BadRequest for ids of another shape."""
    ids: list[str] = []
    for name in ("previous_response_id", "conversation"):
        value = body.get(name)
        if name == "conversation" and isinstance(value, Mapping):
            value = value.get("id")
        if value is None:
            continue
        if not isinstance(value, str) or not value:
            raise BadRequest(f"`{name}` must be an id", param=name)
        ids.append(value)
    return ids


def may_refer_to_state(raw: bytes) -> bool:
    """False if a body refers to nothing that an upstream keeps: a fast look at its bytes, which passes most bodies."""
    return _NAMES.search(raw) is not None


def check_unambiguous(raw: bytes) -> None:
    """Raises BadRequest if an object has a key twice: the upstream may read the other of its values."""
    try:
        json.loads(raw, object_pairs_hook=_unique, parse_int=len)  # as int, more than 4300 digits are an error
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not valid JSON", code="invalid_json") from error


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"the key `{name[:64]}` is in an object twice", code="invalid_json")


def refers_to_state(body: Any) -> bool:
    """True if a body names files, vector stores, containers, skills, items, caches or prompts by their ids."""
    return any(_refers(value) for value in _objects(body, 0))


def _refers(value: Mapping[str, Any]) -> bool:
    if any(value.get(name) and isinstance(value[name], str | list) for name in _IDS):
        return True
    if any(isinstance(inner, Mapping) and inner.get("id") for inner in (value.get("prompt"), value.get("container"))):
        return True
    is_own_skill = value.get("type") == "custom" and isinstance(value.get("skill_id"), str)
    return is_own_skill or value.get("type") == "item_reference"


def _objects(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        yield value
        is_call = value.get("type") == "tool_use"
        for name, inner in value.items():
            if name not in _UNREAD and not (is_call and name == "input"):
                yield from _objects(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner, depth + 1)
