"""Placement `sticky`: what was injected once is injected again, the same, so that a prompt only grows at its end."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.formats import speaks_messages
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

FACTS = ["My cat is called Miso.", "I live in Lisbon, near the river.", "My sister Ines studies law in Porto."]
QUESTIONS = ["What is my cat called?", "Where do I live?", "What does my sister study?", "And again, my cat?"]


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"memory__recall__placement": "sticky"}


async def told(gateway: Running) -> None:
    for number, fact in enumerate(FACTS):
        await gateway.chat(fact, session=f"before {number}")
    await gateway.settled()


async def asked(gateway: Running, upstream: FakeUpstream, count: int, begin: int = 0) -> list[list[dict[str, str]]]:
    """The messages that went up for each question of one growing conversation."""
    sent = []
    for number in range(begin, count):
        messages: list[dict[str, str]] = []
        for earlier in QUESTIONS[:number]:
            messages += [{"role": "user", "content": earlier}, {"role": "assistant", "content": "Understood."}]
        messages.append({"role": "user", "content": QUESTIONS[number]})
        reply = await gateway.chat("", session="now", messages=messages)
        assert reply.status == 200
        sent.append(upstream.last.json["messages"])
    return sent


async def test_a_prompt_only_grows_at_its_end(gateway: Running, upstream: FakeUpstream) -> None:
    await told(gateway)
    sent = await asked(gateway, upstream, 4)
    for earlier, later in itertools.pairwise(sent):
        assert later[: len(earlier)] == earlier
    whole = json.dumps(sent[-1])
    assert all(fact in whole for fact in FACTS)
    assert whole.count(FACTS[0]) == 1, "what stands in an earlier block is not injected again"
    page = (await gateway.get("/metrics")).body.decode()
    assert "gateway_prompt_prefix_kept_ratio_count" in page


async def test_the_same_question_again_has_the_same_block(gateway: Running, upstream: FakeUpstream) -> None:
    await told(gateway)
    (first,) = await asked(gateway, upstream, 1)
    await gateway.chat("Miso is a grey cat.", session="elsewhere")
    await gateway.settled()
    (again,) = await asked(gateway, upstream, 1)
    assert again == first
    reply = await gateway.chat(QUESTIONS[0], session="now")
    assert reply.headers["x-memory-status"] == "hit"
    assert int(reply.headers["x-memory-count"]) == len(reply.headers["x-memory-ids"].split(",")) >= 1
    assert int(reply.headers["x-memory-tokens"]) > 0


async def test_blocks_outlast_a_restart(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> None:
    config = configuration(tmp_path, upstream.url, **changes)
    async with running_gateway(config) as gateway:
        await told(gateway)
        *_, before = await asked(gateway, upstream, 2)
    async with running_gateway(config) as gateway:
        await gateway.settled()
        (after,) = await asked(gateway, upstream, 3, begin=2)
    assert after[: len(before)] == before


async def test_what_was_deleted_is_in_no_earlier_block(
    gateway: Running, upstream: FakeUpstream, tmp_path: Path
) -> None:
    await told(gateway)
    *_, before = await asked(gateway, upstream, 2)
    assert "Miso" in json.dumps(before)
    lines = (await gateway.get("/v1/memory/export?user=ada")).body.splitlines()
    ids = [record["id"] for record in map(json.loads, lines) if "Miso" in record["text"]]
    assert (await gateway.post("/product/delete_memory", {"memory_ids": ids})).status == 200
    (after,) = await asked(gateway, upstream, 3, begin=2)
    assert "Miso" not in json.dumps(after)
    assert (await gateway.post("/v1/memory/forget", {"user": "ada", "purge": True})).status == 200
    for file in tmp_path.rglob("blocks.sqlite*"):
        assert b"Lisbon" not in file.read_bytes(), file


async def test_another_user_of_the_same_conversation_gets_no_block(gateway: Running, upstream: FakeUpstream) -> None:
    await told(gateway)
    await asked(gateway, upstream, 1)
    await gateway.chat(QUESTIONS[0], user="bob", session="now")
    assert "Miso" not in upstream.last.body.decode()


async def test_a_block_that_no_longer_fits_is_left_out(tmp_path: Path, upstream: FakeUpstream) -> None:
    one = {"name": "small", "base_url": upstream.url, "context_window": 400}
    config = configuration(tmp_path, upstream.url, memory__recall__placement="sticky", upstreams=[one])
    async with running_gateway(config) as gateway:
        await told(gateway)
        await asked(gateway, upstream, 2)
        messages = [
            {"role": "user", "content": QUESTIONS[0]},
            {"role": "assistant", "content": "word " * 300},
            {"role": "user", "content": QUESTIONS[1]},
        ]
        assert (await gateway.chat("", session="now", messages=messages)).status == 200
        assert upstream.last.json["messages"][0]["content"] == QUESTIONS[0]


async def test_messages_of_anthropics_format_keep_their_blocks_too(
    tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]
) -> None:
    upstream.script = speaks_messages()
    one = {"name": "claude", "kind": "anthropic", "base_url": upstream.url}
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one], **changes)) as gateway:
        await told(gateway)
        first = {"role": "user", "content": [{"type": "text", "text": QUESTIONS[0]}]}
        headers = {"x-memory-user": "ada", "x-memory-session": "now"}
        body = {"model": "m", "max_tokens": 9, "messages": [first]}
        await gateway.post("/v1/messages", body, headers)
        before = upstream.last.json["messages"]
        second = [first, {"role": "assistant", "content": "Miso."}, {"role": "user", "content": QUESTIONS[1]}]
        await gateway.post("/v1/messages", {**body, "messages": second}, headers)
        assert upstream.last.json["messages"][:1] == before
        assert FACTS[1] in upstream.last.body.decode()


async def test_blocks_in_ram_are_bounded(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.prompt.pinned._OF_A_SESSION", 2)
    monkeypatch.setattr("gateway.prompt.pinned._MAX_BLOCKS", 3)
    await gateway.chat("My cat is called Miso.", session="zero")
    await gateway.settled()
    for session in ("one", "two", "three"):
        for number in range(4):
            await gateway.chat(f"What is the name of my cat? {number}", session=session)
    held = gateway.gateway.memory.sticky._sessions
    assert max(map(len, held.values())) == 2
    assert sum(map(len, held.values())) <= 4


async def test_a_message_that_comes_again_and_again_has_its_block_once(
    gateway: Running, upstream: FakeUpstream
) -> None:
    await gateway.chat("My cat is called Miso.", session="zero")
    await gateway.settled()
    said = {"role": "user", "content": "What is the name of my cat?"}
    for times in (1, 2, 300):
        await gateway.chat("", messages=[said] * times, session="one")
    assert upstream.last.body.count(b"Miso") == 1


async def test_an_opening_that_was_said_before_is_asked_anew(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("My cat is called Miso.", session="zero")
    await gateway.settled()
    await gateway.chat("What are my cats called?")
    await gateway.chat("My second cat is called Rex.", session="zero")
    await gateway.settled()
    await gateway.chat("What are my cats called?")
    assert b"Rex" in upstream.last.body
    nothing = await gateway.chat("What are my cats called?", headers={"x-memory-budget": "0"})
    assert nothing.headers["x-memory-tokens"] == "0"
