"""Which messages of a request are the user's, in all three formats."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.formats.chat import read_chat
from gateway.formats.messages import read_messages
from gateway.formats.responses import read_response
from gateway.turn import ParsedRequest

Read = Callable[[list[dict[str, Any]]], ParsedRequest]


def _chat(messages: list[dict[str, Any]]) -> ParsedRequest:
    return read_chat({"model": "m", "messages": messages}, 100)


def _messages(messages: list[dict[str, Any]]) -> ParsedRequest:
    return read_messages({"model": "m", "max_tokens": 9, "messages": messages}, 100)


def _responses(messages: list[dict[str, Any]]) -> ParsedRequest:
    return read_response({"model": "m", "input": messages}, 100)


ALL = pytest.mark.parametrize("read", [_chat, _messages, _responses])
CALLS: dict[Any, list[dict[str, Any]]] = {
    _chat: [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "call_1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ],
    _messages: [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "42"}]},
    ],
    _responses: [
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ],
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@ALL
def test_a_system_message_behind_the_users_makes_no_step(read: Read) -> None:
    ask = read([user("My cat is Miso"), {"role": "system", "content": "agents: none"}])
    assert (ask.messages, ask.is_step, ask.is_task) == (("My cat is Miso",), False, False)


@ALL
def test_a_prefilled_answer_makes_no_step(read: Read) -> None:
    ask = read([user("a"), assistant("b"), user("I keep two goldfish"), assistant("{")])
    assert (ask.messages, ask.is_step, ask.is_repeated, ask.context) == (("I keep two goldfish",), False, True, "a\nb")


@ALL
def test_several_messages_in_a_row_are_one_turn(read: Read) -> None:
    ask = read([user("My sister Hanna lives in Bergen."), user("What should I pack?")])
    assert ask.messages == ("My sister Hanna lives in Bergen.", "What should I pack?")
    assert ask.query == "My sister Hanna lives in Bergen.\nWhat should I pack?"


@ALL
def test_only_results_of_tools_behind_the_user_make_a_step(read: Read) -> None:
    calls = CALLS[read]
    step = read([user("old"), assistant("answer"), user("how many?"), *calls])
    assert (step.messages, step.is_step, step.context) == (("how many?",), True, "old\nanswer")
    again = read([user("how many?"), *calls, user("and today?")])
    assert (again.messages, again.is_step) == (("how many?", "and today?"), False)
    assert step.first_answer == "answer"
    assert read([user("how many?"), *calls]).first_answer


@ALL
def test_the_opening_is_what_was_said_first(read: Read) -> None:
    wrapper = user("<environment_context>\n<cwd>/x</cwd>\n</environment_context>")
    ask = read([wrapper, user("Hi"), assistant("Hello"), user("My cat is Miso")])
    assert (ask.opening, ask.first_answer, ask.messages) == ("Hi", "Hello", ("My cat is Miso",))


@ALL
def test_what_only_a_program_wrote_is_no_turn_of_the_user(read: Read) -> None:
    ask = read([user("Hi"), assistant("Hello"), user("<task-notification>done</task-notification>")])
    assert (ask.messages, ask.is_unsaid, ask.query) == ((), True, "")


@ALL
def test_results_that_a_client_sends_as_the_user_make_a_step(read: Read) -> None:
    result = user("[read_file for 'a.txt'] Result:\nI am text of a file\n<environment_details>x</environment_details>")
    ask = read([user("<task>\nHow long is a.txt?\n</task>"), assistant("<read_file>a.txt</read_file>"), result])
    assert (ask.messages, ask.is_step) == (("How long is a.txt?",), True)


@ALL
def test_an_image_alone_is_a_turn_without_words(read: Read) -> None:
    ask = read([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}])
    assert (ask.messages, ask.is_unsaid, ask.is_step) == ((), False, False)


def test_a_server_that_runs_a_tool_itself_makes_a_step() -> None:
    blocks = [
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
    ]
    ask = _messages([user("news?"), {"role": "assistant", "content": blocks}])
    assert (ask.messages, ask.is_step) == (("news?",), True)
