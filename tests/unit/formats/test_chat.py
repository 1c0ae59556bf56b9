import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.chat import ChatFormat, ChatReader, EndReader, read_chat, text_of
from gateway.turn import Answer
from tests.fakes.upstream import DONE, chunk, completion


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **fields}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_the_last_user_message_is_the_query() -> None:
    ask = read_chat(chat(user("one"), {"role": "assistant", "content": "a"}, user("two")), 10)
    assert (ask.opening, ask.context, ask.query, ask.is_step) == ("one", "one\na", "two", False)
    step = read_chat(chat(user("one"), {"role": "assistant", "content": None}, {"role": "tool", "content": "t"}), 10)
    assert (step.query, step.is_step) == ("one", True)
    assert read_chat(chat({"role": "system", "content": "s"}), 10).query == ""


def test_text_parts_are_read_and_others_passed_over() -> None:
    assert text_of([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}, 7]) == "a\nb"
    assert text_of(None) == ""


def test_hints_for_user_and_conversation() -> None:
    ask = read_chat(chat(user("x"), user="u", metadata={"user_id": "m", "conversation_id": "c"}), 10)
    assert (ask.user_hint, ask.session_hint) == ("m", "c")
    assert read_chat(chat(user("x"), user="u", safety_identifier="s"), 10).user_hint == "s"


@pytest.mark.parametrize(
    "text",
    [
        "### Task:\nGenerate a concise, 3-5 word title",
        "Generate a short title for this chat",
        "Correct your JSON ONLY RESPONSE, based on the following errors:",
        "请为这段对话生成一个标题",
    ],
)
def test_chores_are_recognised(text: str) -> None:
    assert read_chat(chat(user(text)), 10).is_task
    assert read_chat(chat(user("x"), n_ctx=1), 10).is_task


@pytest.mark.parametrize(
    "text", ["What is the title of the book?", "Summarize this article for me", "Generate an image"]
)
def test_ordinary_questions_are_no_chores(text: str) -> None:
    assert not read_chat(chat(user(text)), 10).is_task


BLOCK = '<b>\n"x"\n</b>\n\n'


def tail(raw: bytes, body: dict[str, Any]) -> bytes:
    return ChatFormat().put(raw, read_chat(body, 100).user_turns[-1], BLOCK)


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=20)), max_size=6),
    st.text(max_size=20),
)
def test_tail_placement_changes_the_last_user_message_only(history: list[tuple[str, str]], last: str) -> None:
    messages = [{"role": role, "content": text} for role, text in history] + [user(last)]
    body = chat(*messages, seed=1)
    raw = json.dumps(body, ensure_ascii=True).encode()
    placed = json.loads(tail(raw, body))
    assert placed == chat(*messages[:-1], user(BLOCK + last), seed=1)


def test_the_block_goes_into_the_first_text_part_or_one_of_its_own() -> None:
    body = chat(user([{"type": "image_url"}, {"type": "text", "text": "q"}]))
    placed = json.loads(tail(json.dumps(body).encode(), body))
    assert placed["messages"][0]["content"] == [{"type": "image_url"}, {"type": "text", "text": BLOCK + "q"}]
    body = chat(user([{"type": "image_url"}]))
    placed = json.loads(tail(json.dumps(body).encode(), body))
    assert placed["messages"][0]["content"] == [{"type": "text", "text": BLOCK}, {"type": "image_url"}]


def test_system_placement_extends_or_adds_a_system_message() -> None:
    body = chat({"role": "system", "content": "s"}, user("q"))
    placed = json.loads(ChatFormat().put_into_system(json.dumps(body).encode(), body, BLOCK))
    assert placed["messages"][0]["content"] == "s\n\n" + BLOCK.rstrip()
    body = chat(user("q"))
    placed = json.loads(ChatFormat().put_into_system(json.dumps(body).encode(), body, BLOCK))
    assert placed["messages"] == [{"role": "system", "content": BLOCK.rstrip()}, user("q")]


def read(*pieces: bytes) -> ChatReader:
    reader = ChatReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def test_a_stream_is_read_to_its_end() -> None:
    call = {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}
    reader = read(
        chunk({"content": "a"}), chunk({"content": "other"}, index=1), chunk(call), chunk({}, "tool_calls"), DONE
    )
    assert reader.is_complete
    answer = reader.answer()
    assert (answer.text, answer.finish_reason, answer.has_tool_calls) == ("a", "tool_calls", True)


def test_without_done_a_finish_reason_at_the_end_suffices() -> None:
    reader = read(chunk({"content": "a"}), chunk({}, "stop"))
    before = reader.is_complete
    reader.end()
    assert (before, reader.is_complete) == (False, True)
    cut = read(chunk({"content": "a"}))
    cut.end()
    assert not cut.is_complete


def test_an_error_event_is_no_good_end() -> None:
    reader = read(chunk({"content": "a"}), b'data: {"error": {"message": "x"}}\n\n', DONE)
    reader.end()
    assert not reader.is_complete
    assert reader.has_error


STREAMS = [
    [chunk({"content": 'say "finish_reason":"stop" [DONE] "error": {'}), chunk({}, "stop"), DONE],
    [chunk({"content": "a"}), chunk({}, "stop")],
    [chunk({"content": "a"})],
    [chunk({"content": "\ndata: [DONE]\n"})],
    [b": ping\n\n"],
    [chunk({"content": "a"}), b'data: {"error": {"message": "x"}}\n\n', DONE],
    [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop"), chunk({}, "stop", index=1)],
    [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop", index=1)],
    [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop"), DONE],
    [b'data: {"choices":[],"usage":{"prompt_tokens": 12,"completion_tokens":3}}\r\n\r\n', DONE],
]


@pytest.mark.parametrize("pieces", STREAMS)
@pytest.mark.parametrize("size", [1, 3, 7, 64, 10_000])
def test_the_reader_of_ends_agrees_with_the_whole_one(pieces: list[bytes], size: int) -> None:
    stream = b"".join(pieces)
    cut = [stream[i : i + size] for i in range(0, len(stream), size)]
    whole, ends = read(*cut), EndReader()
    for piece in cut:
        ends.feed(piece)
    assert (ends.is_complete, ends.has_error, ends.has_events) == (whole.is_complete, whole.has_error, whole.has_events)
    whole.end()
    ends.end()
    assert ends.is_complete == whole.is_complete
    one, other = ends.answer(), whole.answer()
    assert (one.prompt_tokens, one.completion_tokens) == (other.prompt_tokens, other.completion_tokens)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"7",
        b'{"choices": null}',
        b'{"choices": [null]}',
        b'{"choices": [{"delta": 3}]}',
        b'{"usage": 4}',
        b'{"choices":[{"delta":{"content":5}}]}',
    ],
)
def test_odd_chunks_are_skipped(data: bytes) -> None:
    reader = read(b"data: " + data + b"\n\n", chunk({"content": "ok"}), DONE)
    assert reader.answer().text == "ok"
    assert ChatFormat().read_plain(data) in (None, Answer(None))


def test_a_kept_answer_is_bounded() -> None:
    reader = ChatReader()
    for _ in range(40):
        reader.feed(chunk({"content": "x" * 10_000}))
    text = reader.answer().text
    assert text is not None
    assert len(text) < 300_000


def test_a_plain_answer_is_read() -> None:
    body = json.dumps(completion("<think>t</think>a", tool_calls=[])).encode()
    answer = ChatFormat().read_plain(body)
    assert answer == Answer("a", "stop", "t", False, 7, 5, id="chatcmpl-1")
    assert ChatFormat().read_plain(b'{"error": 1}') is None


def is_complete(is_whole: bool, *chunks: bytes) -> bool:
    reader = ChatFormat().reader() if is_whole else ChatFormat().end_reader()
    for piece in chunks:
        reader.feed(piece)
    reader.end()
    return reader.is_complete


@pytest.mark.parametrize("is_whole", [True, False], ids=["ChatReader", "EndReader"])
def test_without_done_each_choice_needs_its_end(is_whole: bool) -> None:
    ended = partial(is_complete, is_whole)
    both = (chunk({"content": "a"}), chunk({"content": "b"}, index=1))
    assert not ended(*both, chunk({}, "stop"))
    assert not ended(*both, chunk({}, "stop", index=1))
    assert ended(*both, chunk({}, "stop"), chunk({}, "stop", index=1))
    assert ended(*both, chunk({}, "stop"), DONE)


def test_what_comes_after_the_end_is_no_part_of_the_answer() -> None:
    for cut in (1, 7, 10_000):
        reader = ChatFormat().reader()
        raw = chunk({"content": "Yes."}) + chunk({}, "stop") + DONE + chunk({"content": " Ignore this."}) + DONE
        for i in range(0, len(raw), cut):
            reader.feed(raw[i : i + cut])
        assert reader.is_complete
        assert reader.answer().text == "Yes."


@pytest.mark.parametrize("is_whole", [True, False], ids=["ChatReader", "EndReader"])
def test_an_empty_finish_reason_ends_nothing_and_a_piece_after_the_end_reopens_nothing(is_whole: bool) -> None:
    ended = partial(is_complete, is_whole)
    assert not ended(chunk({"content": "a"}), chunk({}, ""))
    assert ended(chunk({"content": "a"}), chunk({}, "stop"), chunk({"content": ""}))


def test_the_messages_of_a_request_are_read_when_they_are_needed() -> None:
    messages = [{"role": "user", "content": "Where do I live?"}]
    ask = read_chat({"model": "m", "messages": messages, "user": "ada"}, 10)
    assert (ask.model, ask.user_hint, ask.upstream) == ("m", "ada", "")
    messages[0]["content"] = "Where does Bob live?"  # not read before
    assert (ask.query, ask.is_task) == ("Where does Bob live?", False)
    messages[0]["content"] = "Where?"
    assert (ask.query, ask.opening) == ("Where does Bob live?", "Where does Bob live?")
    assert replace(ask, is_task=True).query == ask.query
    with pytest.raises(AttributeError):
        _ = ask.answer  # type: ignore[attr-defined]
