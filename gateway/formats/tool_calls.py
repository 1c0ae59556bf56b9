"""Tool calls with their results, in all three formats. Pure. Malformed entries are skipped."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.formats.base import ToolCall
from gateway.formats.conversation import UserTurn

__all__ = ["calls_after", "calls_in", "ids_of"]

_MAX_CALLS = 32  # calls of one turn
_MAX_CHARACTERS = 4000  # characters of arguments, and of a result


def calls_after(turns: Sequence[UserTurn], entries: Any) -> list[ToolCall]:
    """Return the tool calls since the last user message; `entries` is the list that the turns' paths index."""
    if not turns or len(turns[-1].path) < 2 or not isinstance(entries, list):
        return []
    index = turns[-1].path[1]
    return calls_in(entries[index + 1 :]) if isinstance(index, int) else []


def ids_of(calls: Any) -> str:
    """Join the ids of tool calls with spaces."""
    ids = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return " ".join(id_ for id_ in ids if isinstance(id_, str))


def calls_in(entries: Sequence[Any]) -> list[ToolCall]:
    """Return the tool calls among messages or items, in order, each with its result ("" without one)."""
    calls: dict[str, tuple[str, str]] = {}
    results: dict[str, str] = {}
    for part in _iterate_parts(entries):
        if "name" in part:
            calls.setdefault(part["id"], (part["name"], part["arguments"]))
        else:
            results[part["id"]] = part["result"]
    return [
        ToolCall(name, arguments[:_MAX_CHARACTERS], results.get(id_, "")[:_MAX_CHARACTERS])
        for id_, (name, arguments) in list(calls.items())[:_MAX_CALLS]
    ]


def _iterate_parts(entries: Sequence[Any]) -> Iterator[dict[str, str]]:
    """Yield calls (with `name`) and results (without), each with the `id` that pairs them."""
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        content, calls = entry.get("content"), entry.get("tool_calls")
        if entry.get("role") == "tool":
            yield {"id": str(entry.get("tool_call_id")), "result": _text(content)}
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            yield from _read_call(call if isinstance(call, dict) else {}, "id", f"{number}.{place}")
        for block in content if isinstance(content, list) else ():
            yield from _read_block(block)
        yield from _read_block(entry)


def _read_block(block: Any) -> Iterator[dict[str, str]]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "tool_use":
        yield from _read_call({"id": block.get("id"), "function": block}, "id", "")
    elif kind == "function_call":
        yield from _read_call({"call_id": block.get("call_id"), "function": block}, "call_id", "")
    elif kind == "tool_result":
        yield {"id": str(block.get("tool_use_id")), "result": _text(block.get("content"))}
    elif kind == "function_call_output":
        yield {"id": str(block.get("call_id")), "result": _text(block.get("output"))}


def _read_call(call: Mapping[str, Any], id_name: str, default_id: str) -> Iterator[dict[str, str]]:
    function = call.get("function")
    if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
        arguments = function.get("arguments", function.get("input", ""))
        serialized = arguments if isinstance(arguments, str) else orjson.dumps(arguments, default=str).decode()
        yield {"id": str(call.get(id_name) or default_id), "name": function["name"], "arguments": serialized}


def _text(content: Any) -> str:
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
