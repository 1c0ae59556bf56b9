import json
from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.formats.messages import MessagesReader
from gateway.formats.sse import EventParser
from gateway.formats.translate.to_chat import MessagesStream, chat_request, message_answer, message_error
from tests.fakes.upstream import DONE, chunk, completion, deltas

TOOL = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}


def request(*messages: Any, **fields: Any) -> dict[str, Any]:
    return chat_request({"model": "m", "max_tokens": 9, "messages": list(messages), **fields})


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_conversation_with_tools_is_one_in_the_other_format() -> None:
    made = request(
        user("look up"),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"where": "up"}},
            ],
        },
        user(
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "dark"}],
                },
                {"type": "text", "text": "and down?"},
            ]
        ),
        system=[{"type": "text", "text": "Be kind."}],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "ada"},
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    arguments = made["messages"][2]["tool_calls"][0]["function"].pop("arguments")
    assert json.loads(arguments) == {"where": "up"}
    assert made["messages"] == [
        {"role": "system", "content": "Be kind."},
        user("look up"),
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look"}}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "Error: dark"},
        user("and down?"),
    ]
    assert made["tools"][0]["function"] == {"name": "look", "description": "looks", "parameters": {"type": "object"}}
    assert (made["tool_choice"], made["parallel_tool_calls"]) == ("required", False)
    assert (made["max_tokens"], made["stop"], made["user"]) == (9, ["END"], "ada")
    assert "thinking" not in made


def test_newer_models_get_the_limit_that_they_know() -> None:
    assert request(user("x"), model="gpt-5-mini")["max_completion_tokens"] == 9
    assert request(user("x"), model="llama3")["max_tokens"] == 9


def test_images_and_documents_are_carried_over() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BB"}}
    shown = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    made = request(user([shown, image, document, {"type": "text", "text": "what?"}]))
    tool, asked = made["messages"]
    assert tool == {"role": "tool", "tool_call_id": "t", "content": ""}
    assert [part["type"] for part in asked["content"]] == ["image_url", "image_url", "file", "text"]
    assert asked["content"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"messages": [user([{"type": "server_thing"}])]}, "messages[0].content[0]"),
    ],
)
def test_what_the_format_cannot_say_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat_request({"model": "m", "messages": [user("x")], **fields})
    assert caught.value.param == param


def test_an_answer_comes_back_as_a_message() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    found = completion("Hello", tool_calls=[call])
    found["choices"][0]["finish_reason"] = "tool_calls"
    made = message_answer(found)
    assert made is not None
    assert (made["type"], made["role"], made["stop_reason"]) == ("message", "assistant", "tool_use")
    assert made["content"] == [
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}},
    ]
    assert (made["usage"]["input_tokens"], made["usage"]["output_tokens"]) == (7, 5)


def translated(pieces: list[bytes]) -> tuple[bytes, list[dict[str, Any]]]:
    stream, parser, out = MessagesStream(), EventParser(), b""
    for piece in pieces:
        for event in parser.feed(piece):
            out += b"".join(stream.feed(event.data))
    out += b"".join(stream.end())
    return out, [json.loads(event.data) for event in EventParser().feed(out)]


def test_a_stream_comes_back_event_by_event() -> None:
    calls = [
        {"index": 0, "id": "c0", "function": {"name": "look", "arguments": ""}},
        {"index": 1, "id": "c1", "function": {"name": "hear", "arguments": '{"b"'}},
        {"index": 0, "function": {"arguments": '{"a":1}'}},
        {"index": 1, "function": {"arguments": ":2}"}},
    ]
    usage = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n'
    pieces = [*deltas("Hello you")[:-1], *(chunk({"tool_calls": [call]}) for call in calls)]
    raw, events = translated([*pieces, chunk({}, "tool_calls"), usage, DONE])
    assert [event["type"] for event in events][:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert [event["type"] for event in events][-2:] == ["message_delta", "message_stop"]
    begun = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    ended = sorted(event["index"] for event in events if event["type"] == "content_block_stop")
    assert (begun, ended) == (["text", "tool_use", "tool_use"], [0, 1, 2])
    given: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            given[event["index"]] = given.get(event["index"], "") + event["delta"]["partial_json"]
    assert {index: json.loads(text) for index, text in given.items()} == {1: {"a": 1}, 2: {"b": 2}}
    assert (events[-2]["delta"]["stop_reason"], events[-2]["usage"]["output_tokens"]) == ("tool_use", 4)
    reader = MessagesReader()
    reader.feed(raw)
    assert (reader.is_complete, reader.answer().text) == (True, "Hello you")


def test_a_stream_that_was_cut_has_no_end() -> None:
    _, events = translated(deltas("Hello you")[:2])
    assert not {"message_delta", "message_stop"} & {event["type"] for event in events}
    _, without_done = translated(deltas("Hello you"))
    assert without_done[-1]["type"] == "message_stop"


def test_an_error_in_a_stream_is_told_once() -> None:
    _, events = translated([deltas("x")[0], b'data: {"error":{"message":"over"}}\n\n', DONE])
    assert events[-1] == {"type": "error", "error": {"type": "api_error", "message": "over"}}
    assert message_error(429, {"error": {"message": "slow"}})["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "}{", "null"])
def test_a_call_with_what_is_no_object_is_no_answer(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    found = completion("Hello", tool_calls=[call])
    assert message_answer(found) is None
    found["choices"][0]["finish_reason"] = "length"
    made = message_answer(found)
    assert made is not None
    assert ([block["type"] for block in made["content"]], made["stop_reason"]) == (["text"], "max_tokens")


@pytest.mark.parametrize("arguments", ["", "{}", " { } ", None])
def test_a_call_without_arguments_is_one(arguments: str | None) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    made = message_answer(completion("Hello", tool_calls=[call]))
    assert made is not None
    assert made["content"][-1]["input"] == {}


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_the_server_gave_up_is_none(reason: str) -> None:
    found = completion("Hel")
    found["choices"][0]["finish_reason"] = reason
    assert message_answer(found) is None
    _, events = translated([*deltas("Hel")[:-1], chunk({}, reason), DONE])
    assert "message_stop" not in [event["type"] for event in events]


def test_a_demanded_tool_is_a_tool_whatever_the_server_calls_its_end() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    made = message_answer(completion(None, tool_calls=[call]))
    assert made is not None
    assert made["stop_reason"] == "tool_use"
    pieces = [chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "stop"), DONE]
    _, events = translated(pieces)
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_calls_that_have_no_number_are_told_apart_by_their_ids() -> None:
    calls = [
        {"id": "a", "function": {"name": "one", "arguments": '{"x":'}},
        {"function": {"arguments": "1}"}},
        {"id": "b", "function": {"name": "two", "arguments": '{"y":2}'}},
    ]
    _, events = translated([*(chunk({"tool_calls": [call]}) for call in calls), chunk({}, "tool_calls"), DONE])
    given: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta":
            given[event["index"]] = given.get(event["index"], "") + event["delta"]["partial_json"]
    assert list(given.values()) == ['{"x":1}', '{"y":2}']


def test_a_document_that_a_tool_gave_goes_up_too() -> None:
    document = {"type": "document", "source": {"type": "text", "data": "the report"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [document]}
    made = chat_request({"model": "m", "messages": [{"role": "user", "content": [result]}]})
    assert made["messages"][1] == {"role": "user", "content": "the report"}


def _calls_in(events: bytes) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls in a stream of messages."""
    blocks: dict[int, list[str]] = {}
    for event in EventParser().feed(events):
        body = json.loads(event.data)
        if body["type"] == "content_block_start" and body["content_block"]["type"] == "tool_use":
            blocks[body["index"]] = [body["content_block"]["id"], body["content_block"]["name"], ""]
        if body["type"] == "content_block_delta" and body["delta"]["type"] == "input_json_delta":
            blocks[body["index"]][2] += body["delta"]["partial_json"]
    return [(id_, name, arguments) for id_, name, arguments in blocks.values()]


def _streamed(*calls: dict[str, Any], finish_reason: str = "tool_calls") -> bytes:
    stream = MessagesStream()
    pieces = [json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}) for call in calls]
    pieces.append(json.dumps({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]}))
    return b"".join(out for piece in [*pieces, "[DONE]"] for out in stream.feed(piece.encode()))


def _piece(index: Any, id_: Any, name: Any, arguments: Any) -> dict[str, Any]:
    fields = {"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("index", [0, None])
def test_calls_that_share_an_index_are_two(index: int | None) -> None:
    events = _streamed(_piece(index, "a", "look", '{"x":1}'), _piece(index, "b", "look", '{"x":2}'))
    assert _calls_in(events) == [("a", "look", '{"x":1}'), ("b", "look", '{"x":2}')]


def test_calls_without_ids_are_told_apart_by_whole_arguments() -> None:
    calls = _calls_in(_streamed(_piece(0, "", "look", '{"x":1}'), _piece(0, "", "look", '{"x":2}')))
    assert [(name, arguments) for _, name, arguments in calls] == [("look", '{"x":1}'), ("look", '{"x":2}')]
    assert len({id_ for id_, _, _ in calls}) == 2


def test_a_call_in_pieces_is_one_even_if_each_repeats_its_id() -> None:
    events = _streamed(_piece(0, "a", "look", '{"x"'), _piece(0, None, None, ":1"), _piece(0, "a", "look", "}"))
    assert _calls_in(events) == [("a", "look", '{"x":1}')]


def test_interleaved_calls_keep_their_pieces() -> None:
    pieces = [_piece(0, "a", "f", '{"x"'), _piece(1, "b", "g", '{"y"'), _piece(0, None, None, ":1}")]
    events = _streamed(*pieces, _piece(1, None, None, ":2}"))
    assert _calls_in(events) == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


def test_arguments_may_be_an_object() -> None:
    assert _calls_in(_streamed(_piece(0, "a", "look", {"x": 1}))) == [("a", "look", '{"x":1}')]
    call = {"id": "call:1.2/é", "type": "function", "function": {"name": "look", "arguments": {"x": 1}}}
    answer = message_answer(completion(None, tool_calls=[call]))
    assert answer is not None
    block = answer["content"][0]
    assert block["input"] == {"x": 1}
    asked = request(user("a"), {"role": "assistant", "content": [block]})
    assert asked["messages"][1]["tool_calls"][0]["id"] == "call:1.2/é"


def test_an_answer_in_parts_is_no_empty_answer() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Yes."}]
    answer = message_answer(completion(None) | {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]})
    assert answer is not None
    assert answer["content"] == [{"type": "text", "text": "Yes."}]
    stream = MessagesStream()
    chunk_ = json.dumps({"id": "c", "choices": [{"delta": {"content": parts}, "finish_reason": "stop"}]})
    events = b"".join([*stream.feed(chunk_.encode()), *stream.end()])
    reader = MessagesReader()
    reader.feed(events)
    assert (reader.answer().text, reader.is_complete) == ("Yes.", True)


def test_an_empty_finish_reason_ends_nothing() -> None:
    stream = MessagesStream()
    body = json.dumps({"id": "c", "choices": [{"delta": {"content": "half"}, "finish_reason": ""}]})
    events = b"".join([*stream.feed(body.encode()), *stream.end()])
    assert b"message_stop" not in events


def test_a_system_message_among_the_others_stays_one() -> None:
    made = request(user("a"), {"role": "system", "content": [{"type": "text", "text": "agents: none"}]})
    assert made["messages"][1] == {"role": "system", "content": "agents: none"}
