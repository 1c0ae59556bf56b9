import json
import re
from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.formats.sse import EventParser
from gateway.formats.translate.to_messages import ChatStream, chat_answer, chat_error, messages_request
from tests.fakes.formats import message, message_events

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where":"up"}'}}


def request(*messages: Any, **fields: Any) -> dict[str, Any]:
    return messages_request({"model": "claude", "messages": list(messages), **fields})


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_a_conversation_keeps_its_order_and_its_voices() -> None:
    made = request(
        said("system", "Be kind."),
        said("user", "hi"),
        said("assistant", "hello"),
        said("user", "one"),
        said("user", [{"type": "text", "text": "two"}, {"type": "text", "text": ""}]),
    )
    assert made["system"] == [{"type": "text", "text": "Be kind."}]
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in made["messages"]] == [
        ("user", ["hi"]),
        ("assistant", ["hello"]),
        ("user", ["one", "two"]),
    ]
    assert made["max_tokens"] == 8192


def test_a_tool_loop_is_one_in_the_other_format() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}}
    made = request(
        said("user", "look up"),
        said("assistant", None, tool_calls=[CALL, {**CALL, "id": "c2"}]),
        said("tool", "sky", tool_call_id="c1"),
        said("tool", [{"type": "text", "text": "bird"}], tool_call_id="c2"),
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "look"}},
        parallel_tool_calls=False,
    )
    used = {"type": "tool_use", "id": "c1", "name": "look", "input": {"where": "up"}}
    assert made["messages"][1] == {"role": "assistant", "content": [used, {**used, "id": "c2"}]}
    assert made["messages"][2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "sky"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "bird"},
        ],
    }
    assert made["tools"] == [{"name": "look", "description": "looks", "input_schema": {"type": "object"}}]
    assert made["tool_choice"] == {"type": "tool", "name": "look", "disable_parallel_tool_use": True}
    assert request(said("user", "x"), tools=[tool], tool_choice="required")["tool_choice"] == {"type": "any"}


def test_images_files_and_settings_are_carried_over() -> None:
    made = request(
        said(
            "user",
            [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
                {"type": "text", "text": "what?", "cache_control": {"type": "ephemeral"}},
            ],
        ),
        temperature=1.7,
        stop="END",
        max_tokens=7,
        user="ada",
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    )
    first, second, third, fourth = made["messages"][0]["content"]
    assert first == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    assert second["source"] == {"type": "url", "url": "https://x/y.png"}
    assert third["type"] == "document"
    assert fourth["cache_control"] == {"type": "ephemeral"}
    assert (made["temperature"], made["stop_sequences"], made["max_tokens"]) == (1.0, ["END"], 7)
    assert (made["metadata"], "seed" in made) == ({"user_id": "ada"}, False)
    assert made["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"n": 2}, "n"), ({"messages": [said("user", [{"type": "input_audio"}])]}, "messages[0].content[0]")],
)
def test_what_the_format_cannot_say_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        messages_request({"model": "m", "messages": [said("user", "x")], **fields})
    assert caught.value.param == param


def test_an_answer_comes_back_as_a_chat_completion() -> None:
    found = chat_answer(message("Hello", tool={"a": 1}, thinking="hm"), 5)
    assert found is not None
    assert (found["object"], found["created"], found["model"]) == ("chat.completion", 5, "claude-fake")
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("Hello", "hm")
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert found["usage"]["prompt_tokens"] == 20
    assert found["usage"]["prompt_tokens_details"] == {"cached_tokens": 7}


def test_a_stream_comes_back_chunk_by_chunk() -> None:
    stream, parser = ChatStream(5, has_usage=True), EventParser()
    out = b""
    for raw in message_events("Hello you", tool={"where": "up"}, thinking="hm"):
        for event in parser.feed(raw):
            out += b"".join(stream.feed(event.data))
    lines = [line.removeprefix(b"data: ") for line in out.split(b"\n\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello you"
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "hm"
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("toolu_1", "look")
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"where": "up"}
    assert {call["index"] for call in calls} == {0}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 5)


def test_errors_are_told_in_the_other_format() -> None:
    told = chat_error({"type": "error", "error": {"type": "overloaded_error", "message": "later"}})["error"]
    assert (told["message"], told["type"], told["code"]) == ("later", "overloaded_error", "overloaded_error")
    long = chat_error({"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}})["error"]
    assert long["code"] == "context_length_exceeded"
    assert b'"error"' in b"".join(ChatStream(1, has_usage=False).feed(b'{"type":"error","error":{"type":"x"}}'))


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"type":"message_start"}', b'{"type":"content_block_delta","delta":1}']
)
def test_odd_events_are_passed_over(data: bytes) -> None:
    assert b"".join(ChatStream(1, has_usage=True).feed(data)) == b""


def test_what_is_no_message_is_no_answer() -> None:
    assert chat_answer({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, 5) is None


def test_a_stream_that_never_said_how_it_ended_has_no_end() -> None:
    stream = ChatStream(5, has_usage=False)
    begin, *_, stop = message_events("Hello")
    (event,) = EventParser().feed(begin)
    out = b"".join(stream.feed(event.data)) + b"".join(stream.feed(EventParser().feed(stop)[0].data))
    assert b"[DONE]" not in out
    assert b'"finish_reason":"stop"' not in out


def test_only_the_tools_that_are_allowed_are_offered() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    made = request(said("user", "x"), tools=tools, tool_choice=choice, service_tier="default")
    assert [tool["name"] for tool in made["tools"]] == ["b"]
    assert (made["tool_choice"], made["service_tier"]) == ({"type": "any"}, "standard_only")
    assert "service_tier" not in request(said("user", "x"), service_tier="flex")


def test_arguments_that_are_no_json_are_told_as_they_are() -> None:
    call = {**CALL, "function": {"name": "look", "arguments": '{"where":'}}
    made = request(said("user", "x"), said("assistant", None, tool_calls=[call]))
    assert made["messages"][1]["content"][0]["input"] == {"arguments": '{"where":'}


def test_a_tool_without_arguments_has_an_empty_object_in_a_stream_too() -> None:
    stream = ChatStream(5, has_usage=False)
    events = message_events("", tool={})
    out = b""
    for raw in events:
        for event in EventParser().feed(raw.replace(b'"partial_json": "{}"', b'"partial_json": ""')):
            out += b"".join(stream.feed(event.data))
    chunks = [json.loads(line) for line in re.findall(rb"data: ({.*})", out)]
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert "".join(call["function"].get("arguments", "") for call in calls) == "{}"
    assert chunks[-1]["usage"]["completion_tokens"] == 5, "told with the end to those who did not ask for a piece"


def test_a_data_url_may_have_parameters() -> None:
    url = "data:image/png;charset=utf-8;base64,AAAA"
    made = request(said("user", [{"type": "image_url", "image_url": {"url": url}}]))
    assert made["messages"][0]["content"][0]["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}


def test_ids_of_calls_fit_the_format_on_both_sides() -> None:
    call = {"id": "call:1.2/é", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call:1.2/é", "content": "42"},
    ]
    made = messages_request({"model": "m", "messages": messages})
    used, result = made["messages"][1]["content"][0], made["messages"][2]["content"][0]
    assert used["id"] == result["tool_use_id"]
    assert re.fullmatch("[a-zA-Z0-9_-]+", used["id"])
