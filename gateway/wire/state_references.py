"""References of a body to what an upstream keeps: responses, conversations, files, vector stores, containers. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.errors import BadRequest

__all__ = ["owned_references", "refers_to_state"]

_MARKS: Final = (b'"file_id"', b'"vector_store_ids"', b'"item_reference"', b'"container"', b'"prompt"')
_IDS: Final = frozenset(("file_id", "container"))
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


def refers_to_state(raw: bytes, body: Any) -> bool:
    """True if a body names files, vector stores, containers, items or prompts by their ids. The bytes are looked at
    first: hardly any body does."""
    return any(mark in raw for mark in _MARKS) and any(_refers(value) for value in _objects(body, 0))


def _refers(value: Mapping[str, Any]) -> bool:
    if any(isinstance(value.get(name), str) for name in _IDS):
        return True
    if isinstance(value.get("vector_store_ids"), list) and value["vector_store_ids"]:
        return True
    prompt = value.get("prompt")
    return value.get("type") == "item_reference" or (isinstance(prompt, Mapping) and isinstance(prompt.get("id"), str))


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
