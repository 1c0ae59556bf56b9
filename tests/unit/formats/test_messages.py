import json
import time
from typing import Any

import orjson
import pytest

from gateway.errors import BadRequest
from gateway.formats.messages import MessagesFormat, MessagesReader, read_messages
from gateway.turn import Answer
from tests.fakes.formats import message, message_events

BLOCK = "<user_memory>\nx\n</user_memory>\n"
CACHED = {"cache_control": {"type": "ephemeral"}}


def asked(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "claude", "max_tokens": 100, "messages": list(messages), **fields}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def tail(body: dict[str, Any]) -> Any:
    wire_format, raw = MessagesFormat(), orjson.dumps(body)
    return json.loads(wire_format.put(raw, read_messages(body, 100).user_turns[-1], BLOCK))


def test_the_block_stands_before_the_words_of_a_string() -> None:
    placed = tail(asked(user("first"), {"role": "assistant", "content": "a"}, user("second")))
    assert [message["content"] for message in placed["messages"]] == ["first", "a", BLOCK + "second"]


def test_the_block_stands_behind_the_last_cached_block() -> None:
    blocks = [text("context", **CACHED), text("more", **CACHED), text("question")]
    assert tail(asked(user(blocks)))["messages"][0]["content"] == [*blocks[:2], text(BLOCK), blocks[2]]
    everything = [text("context"), text("question", **CACHED)]
    assert tail(asked(user(everything)))["messages"][0]["content"] == [*everything, text(BLOCK)]


def test_results_of_tools_stay_first_in_their_message() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "42"}
    assert tail(asked(user([result, text("and now?")])))["messages"][0]["content"] == [
        result,
        text(BLOCK),
        text("and now?"),
    ]


def test_a_step_of_a_tool_loop_has_its_block_where_the_user_spoke() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
    result = user(
        [{"type": "tool_result", "tool_use_id": "t", "content": "42"}, text("<system-reminder>x</system-reminder>")]
    )
    body = asked(user("how much?"), call, result)
    ask = read_messages(body, 100)
    assert (ask.is_step, ask.query) == (True, "how much?")
    assert tail(body)["messages"] == [user(BLOCK + "how much?"), call, result]


def test_what_programs_put_in_is_not_what_the_user_said() -> None:
    reminder = "<system-reminder>\nnever mention\n</system-reminder>"
    assert read_messages(asked(user([text(reminder), text("hello")])), 100).query == "hello"
    assert read_messages(asked(user(f"{reminder}\nhello")), 100).query == "hello"


@pytest.mark.parametrize(
    ("user_id", "who"),
    [
        ("ada", ("ada", None)),
        ("user_1f2e_account__session_9f-1", ("1f2e", "9f-1")),
        ('{"device_id":"d","account_uuid":"","session_id":"s"}', ("d", "s")),
        ("{broken", ("{broken", None)),
        (7, (None, None)),
    ],
)
def test_user_and_session_stand_in_the_metadata(user_id: Any, who: tuple[str | None, str | None]) -> None:
    ask = read_messages(asked(user("hi"), metadata={"user_id": user_id}), 100)
    assert (ask.user_hint, ask.session_hint) == who


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ({"messages": []}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": ["x"]}, "messages[0]"),
        ({"model": "m", "messages": [{"content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"model": "m", "messages": [user("x")] * 101}, "messages"),
        ({"model": "m", "messages": [user("x")], "stream": "yes"}, "stream"),
    ],
)
def test_what_is_wrong_is_named(body: Any, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        read_messages(body, 100)
    assert caught.value.param == param


@pytest.mark.parametrize("system", [None, "Be kind.", [text("Be kind.", **CACHED)]])
def test_the_system_prompt_can_hold_the_block(system: Any) -> None:
    body = asked(user("hi")) | ({} if system is None else {"system": system})
    placed = json.loads(MessagesFormat().put_into_system(orjson.dumps(body), body, BLOCK))
    rest = {name: value for name, value in placed.items() if name != "system"}
    assert rest == {name: value for name, value in body.items() if name != "system"}
    if isinstance(system, list):
        assert placed["system"] == [*system, text(BLOCK.rstrip())]
    else:
        assert placed["system"].endswith(BLOCK.rstrip())
        assert placed["system"].startswith(system or "<user_memory>")


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    reader, raw = MessagesReader(), b"".join(message_events("Grüß dich, 世界", tool={"a": 1}, thinking="hm"))
    for begin in range(0, len(raw), size):
        assert not reader.is_complete
        reader.feed(raw[begin : begin + size])
    assert reader.is_complete
    assert not reader.is_mid_event
    assert reader.answer() == Answer(
        "Grüß dich, 世界", "tool_use", "hm", True, 20, 5, cached_tokens=7, written_tokens=2, id="msg_1"
    )


def test_a_stream_with_an_error_is_not_whole() -> None:
    reader = MessagesReader()
    reader.feed(b"".join(message_events("half")[:4]))
    reader.feed(MessagesFormat().error_event("over", "stream_interrupted"))
    reader.end()
    assert (reader.is_complete, reader.has_error) == (False, True)


def test_a_plain_answer_is_read() -> None:
    raw = orjson.dumps(message("Hello", tool={}, thinking="hm"))
    assert MessagesFormat().read_plain(raw) == Answer(
        "Hello", "tool_use", "hm", True, 20, 5, cached_tokens=7, written_tokens=2, id="msg_1"
    )
    assert MessagesFormat().read_plain(b"[]") is None
    assert MessagesFormat().read_plain(b"<html>") is None


@pytest.mark.parametrize(
    "data", [b"[]", b"1", b'{"type":"message_start","message":7}', b'{"type":"message_delta"}', b"{"]
)
def test_odd_events_are_passed_over(data: bytes) -> None:
    reader = MessagesReader()
    reader.feed(b"data: " + data + b"\n\n")
    assert reader.answer().text is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a <system-reminder>x</system-reminder> b", "a\nb"),
        ("<system-reminder>x</system-reminder>\n<system-reminder>y</system-reminder> b ", "b"),
        (" <system-reminder>never ends", " <system-reminder>never ends"),
        ("a</system-reminder><system-reminder>", "a</system-reminder><system-reminder>"),
    ],
)
def test_what_a_program_reminds_of_is_not_said(text: str, said: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    assert [turn.text for turn in read_messages(body, 100).user_turns] == [said]


def test_white_space_and_tags_cost_no_more_than_their_length() -> None:
    for text in (
        " " * 2_000_000 + "x",
        "<system-reminder>" * 100_000,
        "\n<system-reminder></system-reminder>" * 50_000 + "x",
    ):
        began = time.process_time()
        assert len(read_messages({"model": "m", "messages": [{"role": "user", "content": text}]}, 100).user_turns) <= 1
        assert time.process_time() - began < 2
