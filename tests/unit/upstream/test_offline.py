from typing import Any

import orjson

from gateway.api.memos.block import MemosLayout
from gateway.api.memos.items import PREFERENCE_NOTE
from gateway.config import UpstreamConfig
from gateway.formats.chat import ChatFormat, ChatReader
from gateway.memory.fence import FENCE_CLOSE, FENCE_OPEN
from gateway.upstream.client import Outgoing
from gateway.upstream.offline import OfflineUpstream
from tests.fakes.made import memory

NOTES = f"{FENCE_OPEN}\nrules\n8 May 2026\n- My cat is called Miso\n- I like tea\n{FENCE_CLOSE}\n\n"


async def ask(path: str, body: Any, method: str = "POST") -> tuple[int, bytes]:
    upstream = OfflineUpstream(UpstreamConfig(name="offline", kind="offline"))
    request = Outgoing(method=method, path=path, query_string="", headers={}, body=orjson.dumps(body))
    incoming = await upstream.send(request)
    return incoming.status, b"".join([piece async for piece in incoming.chunks()])


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


async def test_it_answers_from_the_notes_and_says_what_it_is() -> None:
    _, body = await ask("/chat/completions", chat(NOTES + "What is my cat called?"))
    answer = ChatFormat().read_plain(body)
    assert answer is not None
    assert answer.text is not None
    assert "not a language model" in answer.text
    assert "8 May 2026: My cat is called Miso" in answer.text


async def test_it_speaks_the_language_of_the_question() -> None:
    _, body = await ask("/chat/completions", chat("我的猫叫什么？"))
    assert "不是语言模型" in body.decode()


async def test_a_stream_says_the_same() -> None:
    body = chat(NOTES + "My cat?", stream=True, stream_options={"include_usage": True})
    _, streamed = await ask("/chat/completions", body)
    reader = ChatReader()
    reader.feed(streamed)
    assert reader.is_complete
    answer = reader.answer()
    assert answer.text is not None
    assert "Miso" in answer.text
    assert answer.completion_tokens


async def test_parts_and_text_completions_are_understood() -> None:
    parts = chat([{"type": "text", "text": NOTES + "My cat?"}, {"type": "image_url"}])  # type: ignore[arg-type]  # content may be parts
    assert "Miso" in (await ask("/chat/completions", parts))[1].decode()
    assert b'"text"' in (await ask("/completions", {"model": "m", "prompt": "hi"}))[1]


async def test_what_it_has_not_it_says() -> None:
    status, body = await ask("/embeddings", {"model": "m", "input": "x"})
    assert status == 404
    assert "configure an upstream" in orjson.loads(body)["error"]["message"]
    assert orjson.loads((await ask("/models", {}, "GET"))[1])["data"][0]["id"] == "offline"


async def test_it_answers_from_the_memories_of_a_memos_prompt_without_their_notes() -> None:
    liked = memory("I love plums\nand pears", 2, kind="preference")
    block = MemosLayout().render([liked, memory("My cat is called Miso", 1)])
    messages = [{"role": "system", "content": block}, {"role": "user", "content": "My cat, and plums?"}]
    _, body = await ask("/chat/completions", {"model": "m", "messages": messages})
    answer = ChatFormat().read_plain(body)
    assert answer is not None
    assert answer.text is not None
    assert "Miso" in answer.text
    assert "plums\n  and pears" in answer.text
    assert PREFERENCE_NOTE[:30] not in answer.text
    assert "Explicit" not in answer.text


async def test_it_answers_from_the_conversation_too() -> None:
    said = [{"role": "user", "content": "My cat is called Miso."}, {"role": "assistant", "content": "Noted."}]
    asked = {"model": "m", "messages": [*said, {"role": "user", "content": "What is my cat called?"}]}
    assert "My cat is called Miso." in (await ask("/chat/completions", asked))[1].decode()
    other = {"model": "m", "messages": [*said, {"role": "user", "content": "Tell a joke"}]}
    assert "no memories" in (await ask("/chat/completions", other))[1].decode()
