"""References of a body to server-side state: responses, conversations, files, vector stores, containers. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.errors import BadRequest

__all__ = ["check_unambiguous", "may_refer_to_state", "owned_references", "refers_to_item", "refers_to_state"]

_ID_FIELDS: Final = frozenset(
    "file_id file_ids vector_store_id vector_store_ids container container_id cached_content".split()
)
_REFERENCE_PATTERN: Final = re.compile(
    rb'"(?:file_ids?|vector_store_ids?|container(?:_id)?|skill_id|cached_content|item_reference|prompt'
    rb'|previous_response_id|conversation|image_generation_call)"|\\u00[4-7]'
)
"""A field name of a reference, or an escaped ASCII letter, which only a disguised name has."""
_SKIPPED_FIELDS: Final = frozenset(
    "metadata arguments parameters input_schema input_examples properties schema guided_json structured_outputs"
    " chat_template_kwargs annotations".split()
)
"""Fields whose contents have a client-defined shape, or that only cite."""
_TOOL_CALLS: Final = frozenset(("tool_use", "mcp_tool_use", "server_tool_use"))
"""Types of blocks whose `input` has a client-defined shape."""
_OUTPUTS: Final = frozenset(
    ("code_interpreter_call", "code_execution_output", "bash_code_execution_output", "shell_call", "shell_call_output")
)
"""Types of model output that clients send back with the next message; ids in it are not looked up."""
_SKILLS: Final = frozenset(("custom", "skill_reference"))
_MAX_DEPTH = 64


def owned_references(body: Mapping[str, Any], *, is_strict: bool) -> list[str]:
    """Return the ids of the responses and conversations that a body continues.

    Malformed ids raise BadRequest if `is_strict`; otherwise they are left to the upstream.
    """
    ids: list[str] = []
    for name in ("previous_response_id", "conversation"):
        value = body.get(name)
        if name == "conversation" and isinstance(value, Mapping):
            value = value.get("id")
        if not value:
            continue
        if isinstance(value, str):
            ids.append(value)
        elif is_strict:
            raise BadRequest(f"`{name}` must be an id", param=name)
    return ids


def may_refer_to_state(raw: bytes) -> bool:
    """False if a body refers to no server-side state: a fast scan of its bytes, which clears most bodies."""
    return _REFERENCE_PATTERN.search(raw) is not None


def check_unambiguous(raw: bytes) -> None:
    """Raise BadRequest if an object has a duplicate key: the upstream may read the other of its values."""
    try:
        json.loads(
            raw, object_pairs_hook=_check_unique_keys, parse_int=len
        )  # as int, more than 4300 digits are an error
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not valid JSON", code="invalid_json") from error


def _check_unique_keys(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"the key `{name[:64]}` is in an object twice", code="invalid_json")


def refers_to_item(body: Mapping[str, Any]) -> bool:
    """True if an item of `input` has an id and nothing else: a reference, whose type may be left out."""
    items = body.get("input")
    return isinstance(items, list) and any(
        isinstance(item, Mapping) and "id" in item and not any(item.get(name) for name in ("type", "role", "content"))
        for item in items
    )


def refers_to_state(body: Any) -> bool:
    """True if a body names files, vector stores, containers, skills, items, caches or prompts by their ids."""
    return any(_has_reference(value) for value in _iterate_objects(body, 0))


def _has_reference(value: Mapping[str, Any]) -> bool:
    type_ = _type_of(value)
    if type_ not in _OUTPUTS and any(value.get(name) and isinstance(value[name], str | list) for name in _ID_FIELDS):
        return True
    if any(isinstance(inner, Mapping) and inner.get("id") for inner in (value.get("prompt"), value.get("container"))):
        return True
    if type_ == "image_generation_call":
        return not value.get("result")
    return type_ == "item_reference" or (type_ in _SKILLS and isinstance(value.get("skill_id"), str))


def _type_of(value: Mapping[str, Any]) -> str:
    type_ = value.get("type")
    return type_ if isinstance(type_, str) else ""


def _iterate_objects(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        yield value
        is_call = depth > 0 and _type_of(value) in _TOOL_CALLS
        for name, inner in value.items():
            if name not in _SKIPPED_FIELDS and not (is_call and name == "input"):
                yield from _iterate_objects(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _iterate_objects(inner, depth + 1)
