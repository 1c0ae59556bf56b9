import json
from typing import Any

import orjson
import pytest

from gateway.errors import BadRequest
from gateway.formats.responses import ResponsesFormat, ResponsesReader, read_response
from gateway.turn import Answer
from tests.fakes.formats import response, response_events

BLOCK = "<user_memory>\nx\n</user_memory>\n"


def asked(said: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": said, **fields}


def item(words: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "input_text", "text": words}]}


def tail(body: dict[str, Any]) -> Any:
    wire_format, raw = ResponsesFormat(), orjson.dumps(body)
    return json.loads(wire_format.put(raw, read_response(body, 100).user_turns[-1], BLOCK))["input"]


def test_the_block_stands_before_what_the_user_said() -> None:
    assert tail(asked("hello")) == BLOCK + "hello"
    assert tail(asked([item("one"), {"role": "user", "content": "two"}])) == [
        item("one"),
        {"role": "user", "content": BLOCK + "two"},
    ]
    image = {"type": "input_image", "image_url": "data:x"}
    mixed = {"type": "message", "role": "user", "content": [image, {"type": "input_text", "text": "look"}]}
    assert tail(asked([mixed]))[0]["content"] == [image, {"type": "input_text", "text": BLOCK + "look"}]
    assert tail(asked([{"role": "user", "content": [image]}]))[0]["content"][0] == {"type": "input_text", "text": BLOCK}


def test_a_step_of_a_tool_loop_is_one() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "42"}
    ask = read_response(asked([item("how much?"), {"type": "function_call", "call_id": "c"}, output]), 100)
    assert (ask.is_step, ask.query) == (True, "how much?")
    alone = read_response(asked([output], previous_response_id="resp_0"), 100)
    assert (alone.query, alone.user_turns) == ("", ())


def test_the_conversation_is_the_session() -> None:
    assert read_response(asked("x", conversation="conv_1"), 100).session_hint == "conv_1"
    assert read_response(asked("x", conversation={"id": "conv_2"}), 100).session_hint == "conv_2"
    ask = read_response(asked("x", metadata={"user_id": "ada", "session_id": "s"}, max_output_tokens=7), 100)
    assert (ask.user_hint, ask.session_hint, ask.max_tokens) == ("ada", "s", 7)


@pytest.mark.parametrize("fields", [{}, {"instructions": "Be kind."}, {"instructions": None}])
def test_the_instructions_can_hold_the_block(fields: dict[str, Any]) -> None:
    body = asked("hi", **fields)
    placed = json.loads(ResponsesFormat().put_into_system(orjson.dumps(body), body, BLOCK))
    assert placed["instructions"].endswith(BLOCK.rstrip())
    assert placed["input"] == "hi"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        (asked(7), "input"),
        (asked(["x"]), "input[0]"),
        (asked([item("x")] * 101), "input"),
        (asked("x", stream=1), "stream"),
    ],
)
def test_what_is_wrong_is_named(body: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_response(body, 100)
    assert caught.value.param == param


@pytest.mark.parametrize("size", [1, 3, 100_000])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    reader, raw = ResponsesReader(), b"".join(response_events("Grüß dich, 世界"))
    for begin in range(0, len(raw), size):
        assert not reader.is_complete
        reader.feed(raw[begin : begin + size])
    assert reader.is_complete
    assert reader.answer() == Answer("Grüß dich, 世界", "completed", None, False, 9, 5, cached_tokens=4, id="resp_1")


def test_what_was_streamed_counts_where_the_end_says_nothing() -> None:
    reader = ResponsesReader()
    for event in response_events("all of it")[:-1]:
        reader.feed(event)
    reader.feed(b'data: {"type":"response.completed","response":{"id":"r","output":[]}}\n\n')
    assert reader.answer().text == "all of it"


def test_a_stream_that_stops_early_or_reports_an_error_is_not_whole() -> None:
    reader = ResponsesReader()
    reader.feed(b"".join(response_events("half")[:-1]))
    reader.end()
    assert not reader.is_complete
    reader.feed(ResponsesFormat().error_event("over", "stream_interrupted"))
    assert reader.has_error


def test_a_plain_answer_is_read() -> None:
    found = ResponsesFormat().read_plain(orjson.dumps(response("Hello")))
    assert found == Answer("Hello", "completed", None, False, 9, 5, cached_tokens=4, id="resp_1")
    assert ResponsesFormat().read_plain(b'{"error":{}}') is None


@pytest.mark.parametrize("data", [b"[]", b'{"type":"response.completed","response":7}', b'{"type":[]}', b"{"])
def test_odd_events_are_passed_over(data: bytes) -> None:
    reader = ResponsesReader()
    reader.feed(b"data: " + data + b"\n\n")
    assert reader.answer().text is None
