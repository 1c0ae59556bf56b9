from gateway.formats.chat import ChatReader
from gateway.upstream.canned import Canned, chat_completion, json_answer, stream_events, text_completion, text_of


async def test_a_stream_has_the_text_and_the_usage_of_the_plain_answer() -> None:
    body = {"model": "m", "messages": [], "stream_options": {"include_usage": True}}
    completion = chat_completion(body, "Good  morning,\nAda")
    answer = Canned(200, "text/event-stream", stream_events(completion, "Good  morning,\nAda", body, is_chat=True))
    reader = ChatReader()
    reader.feed(b"".join([piece async for piece in answer.chunks()]))
    assert reader.is_complete
    assert reader.answer().text == "Good  morning,\nAda"
    assert reader.answer().completion_tokens == completion["usage"]["completion_tokens"]


async def test_a_text_completion_is_answered_in_its_own_format() -> None:
    body = {"model": "m", "prompt": "hi"}
    completion = text_completion(body, "ho")
    assert (completion["object"], completion["choices"][0]["text"]) == ("text_completion", "ho")
    assert b'"text":"ho"' in b"".join(stream_events(completion, "ho", body, is_chat=False))


async def test_json_is_one_chunk() -> None:
    answer = json_answer(404, {"error": "x"})
    assert (answer.status, [piece async for piece in answer.chunks()]) == (404, [b'{"error":"x"}'])


def test_the_text_of_a_message_is_that_of_its_parts() -> None:
    assert text_of({"content": "hi"}) == "hi"
    assert text_of(
        {"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]}
    ) == ("a\n\nb")
    assert text_of({"content": None}) == text_of({}) == ""
