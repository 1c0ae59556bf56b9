"""Calls of tools and what they gave, in the three formats."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.base import ParsedRequest, ToolCall
from gateway.formats.chat import read_chat
from gateway.formats.messages import read_messages
from gateway.formats.responses import read_response
from gateway.formats.tool_calls import calls_after, calls_in

Read = Callable[[Any, int], ParsedRequest]
WANTED = [ToolCall("weather", '{"place":"Linz"}', "rain"), ToolCall("clock", "{}", "")]
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "0", "function": {"name": "old"}}]},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "function": {"name": "weather", "arguments": '{"place":"Linz"}'}},
                {"id": "2", "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "rain"}]},
    ]
}
MESSAGES: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "1", "name": "weather", "input": {"place": "Linz"}},
                {"type": "tool_use", "id": "2", "name": "clock", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "rain"}]},
    ]
}
RESPONSES: dict[str, Any] = {
    "input": [
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "1", "name": "weather", "arguments": '{"place":"Linz"}'},
        {"type": "function_call", "call_id": "2", "name": "clock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "rain"},
    ]
}


def calls_in_body(read: Read, entries: dict[str, Any]) -> list[ToolCall]:
    (field,) = entries
    return calls_after(read({"model": "m", **entries}, 100).user_turns, entries[field])


@pytest.mark.parametrize(
    ("read", "entries"),
    [(read_chat, CHAT), (read_messages, MESSAGES), (read_response, RESPONSES)],
    ids=["chat", "messages", "responses"],
)
def test_the_calls_since_the_user_spoke_are_read(read: Read, entries: dict[str, Any]) -> None:
    assert calls_in_body(read, entries) == WANTED


def test_without_a_call_there_is_none() -> None:
    assert calls_in_body(read_response, {"input": "Weather?"}) == []
    assert calls_in_body(read_chat, {"messages": [{"role": "user", "content": "Weather?"}]}) == []


def test_long_ones_are_cut_and_many_are_too() -> None:
    calls = [{"id": str(n), "function": {"name": "f", "arguments": "x" * 9000}} for n in range(99)]
    found = calls_in([{"role": "assistant", "tool_calls": calls}])
    assert (len(found), len(found[0].arguments)) == (32, 4000)


_ODD = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "function", "name", "content", "tool_calls", "input"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(_ODD, max_size=4))
def test_no_message_is_a_fault(entries: list[Any]) -> None:
    calls_in(entries)
