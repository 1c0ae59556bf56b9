"""The main job: what a user said comes back when it is needed."""

import json
from pathlib import Path

import pytest

from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, chunk, completion, says, streams

FACT = "My cat is called Miso and I live in Lisbon."
QUESTION = "What is the name of my cat?"


async def test_a_fact_of_one_conversation_stands_in_the_next(gateway: Running, upstream: FakeUpstream) -> None:
    first = await gateway.chat(FACT, session="one")
    assert first.headers["x-memory-status"] == "miss"
    await gateway.settled()
    reply = await gateway.chat(QUESTION, session="two")
    assert reply.headers["x-memory-status"] == "hit"
    assert int(reply.headers["x-memory-count"]) >= 1
    content = upstream.last.json["messages"][-1]["content"]
    assert FACT in content
    assert content.startswith("<user_memory>")
    assert content.endswith(QUESTION)


async def test_a_fact_survives_a_restart(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as before:
        await before.chat(FACT, session="one")
    async with running_gateway(config) as after:
        await after.settled()
        await after.chat(QUESTION, session="two")
    assert FACT in upstream.last.json["messages"][-1]["content"]


async def test_a_chinese_fact_is_recalled(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("我的猫叫小白，它今年三岁了。", session="one")
    await gateway.chat("今天天气很好，我去公园跑步了。", session="one")
    await gateway.settled()
    await gateway.chat("我的猫叫什么名字？", session="two")
    assert "我的猫叫小白" in upstream.last.json["messages"][-1]["content"]


async def test_the_answer_is_remembered_whole_from_a_stream(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.reply = "The best bakery is Padaria Sol in Alfama."
    await gateway.chat("Which bakery is best?", session="one", stream=True)
    await gateway.settled()
    await gateway.chat("What was the bakery that you named?", session="two")
    assert "assistant: The best bakery is Padaria Sol in Alfama." in upstream.last.json["messages"][-1]["content"]


async def test_another_user_gets_nothing(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, user="ada")
    await gateway.settled()
    reply = await gateway.chat(QUESTION, user="bob")
    assert reply.headers["x-memory-status"] == "miss"
    assert "Miso" not in upstream.last.body.decode()


async def test_no_user_means_no_memory_and_the_same_bytes(gateway: Running, upstream: FakeUpstream) -> None:
    raw = b'{"model": "fake-1",\n "messages": [{"role":"user","content":"hi"}], "n": 1e0, "x": 12345678901234567890}'
    reply = await gateway.post("/v1/chat/completions", None, raw=raw)
    assert reply.headers["x-memory-status"] == "off"
    assert upstream.last.body == raw


@pytest.mark.parametrize(
    ("mode", "reads", "writes"), [("read", True, False), ("write", False, True), ("off", False, False)]
)
async def test_the_mode_header_switches_reading_and_writing(
    gateway: Running, upstream: FakeUpstream, mode: str, reads: bool, writes: bool
) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    await gateway.chat("My dog is called Rex.", session="two", headers={"x-memory-mode": mode})
    assert ("Miso" in upstream.last.body.decode()) == reads
    await gateway.settled()
    await gateway.chat("What is the name of my dog?", session="three")
    assert ("called Rex" in upstream.last.body.decode()) == writes


async def test_a_tool_loop_recalls_once_and_keeps_its_prefix(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    user = {"role": "user", "content": QUESTION}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    upstream.script = says(200, completion(None, tool_calls=[call]))
    tools = [{"type": "function", "function": {"name": "look"}}]
    await gateway.chat("", session="two", messages=[user], tools=tools)
    first = upstream.last.json["messages"]
    await gateway.settled()
    upstream.script = None
    steps = [user, {"role": "assistant", "content": None, "tool_calls": [call]}]
    steps.append({"role": "tool", "tool_call_id": "c1", "content": "found"})
    await gateway.chat("", session="two", messages=steps, tools=tools)
    assert upstream.last.json["messages"][0] == first[0]
    assert FACT in first[0]["content"]


async def test_earlier_messages_stay_as_they_were_sent(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
    ]
    await gateway.chat("", session="two", messages=[*history, {"role": "user", "content": QUESTION}])
    assert upstream.last.json["messages"][:-1] == history


async def test_what_the_prompt_holds_anyway_is_not_injected_again(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    messages = [
        {"role": "user", "content": FACT},
        {"role": "assistant", "content": "Understood."},
        {"role": "user", "content": QUESTION},
    ]
    await gateway.chat("", session="one", messages=messages)
    assert upstream.last.body.decode().count("Miso") == 1


async def test_reasoning_is_not_remembered_as_the_answer(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = streams(
        [chunk({"reasoning_content": "secret pondering"}), chunk({"content": "Blue whales sing."}), chunk({}, "stop")]
    )
    await gateway.chat("Tell me about whales", session="one", stream=True)
    await gateway.settled()
    upstream.script = None
    await gateway.chat("What do whales do, and what did you ponder?", session="two")
    assert "Blue whales sing." in upstream.last.body.decode()
    assert "pondering" not in upstream.last.body.decode()


async def test_the_same_message_again_is_kept_once(gateway: Running) -> None:
    for _ in range(3):
        await gateway.chat(FACT, session="one")
    await gateway.settled()
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "cat Miso Lisbon", "relativity": 0})
    texts = [item["memory"] for group in found.json["data"]["text_mem"] for item in group["memories"]]
    assert texts.count(FACT) == 1


async def test_a_title_generator_gets_no_memory_and_leaves_none(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    task = "### Task:\nGenerate a concise, 3-5 word title for the chat about my cat Miso."
    await gateway.chat(task, session="two")
    assert upstream.last.json["messages"] == [{"role": "user", "content": task}]
    await gateway.settled()
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "title task", "relativity": 0})
    assert "### Task" not in found.body.decode()


@pytest.mark.parametrize("changes", [{"memory__recall__placement": "system"}])
async def test_system_placement_extends_the_system_prompt(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    await gateway.chat("", session="two", messages=[{"role": "user", "content": QUESTION}])
    first, last = upstream.last.json["messages"]
    assert first["role"] == "system"
    assert FACT in first["content"]
    assert last["content"] == QUESTION


@pytest.mark.parametrize("text", ["What is the capital of France?", "写一个快速排序", "thank you!"])
async def test_small_talk_gets_no_memories(gateway: Running, upstream: FakeUpstream, text: str) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.chat("My dentist has moved to the third floor.", session="one")
    await gateway.settled()
    reply = await gateway.chat(text, session="two")
    assert reply.headers["x-memory-status"] == "miss"
    assert upstream.last.json["messages"] == [{"role": "user", "content": text}]


async def test_the_budget_header_is_obeyed(gateway: Running, upstream: FakeUpstream) -> None:
    for number in range(30):
        await gateway.chat(f"Cat fact {number}: my cat number {number} likes fish number {number} best.", session="one")
    await gateway.settled()
    reply = await gateway.chat("What do my cats like?", session="two", headers={"x-memory-budget": "200"})
    assert 0 < int(reply.headers["x-memory-tokens"]) <= 200
    reply = await gateway.chat("What do my cats like best?", session="three", headers={"x-memory-budget": "0"})
    assert reply.headers["x-memory-count"] == "0"


async def test_secrets_do_not_reach_the_memory(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, plugins=[{"use": "redact"}])
    secret = "sk-proj-abcdefghijklmnopqrstuvwx123456"
    async with running_gateway(config) as gateway:
        await gateway.chat(f"My OpenAI key is {secret}, keep it.", session="one")
        await gateway.settled()
        metrics = (await gateway.get("/metrics")).body.decode()
    assert 'gateway_plugin_counts_total{kind="api_keys",plugin="redact"} 1.0' in metrics
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert secret.encode() not in kept
    assert b"[redacted]" in kept


async def test_image_parts_stay_and_the_block_goes_into_the_text(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat(FACT, session="one")
    await gateway.settled()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [image, {"type": "text", "text": QUESTION}]
    await gateway.chat("", session="two", messages=[{"role": "user", "content": content}])
    sent = upstream.last.json["messages"][0]["content"]
    assert sent[0] == image
    assert FACT in sent[1]["text"]
    assert json.dumps(sent).count("Miso") == 1
