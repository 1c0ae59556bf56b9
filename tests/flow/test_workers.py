"""Several workers on one data folder: what one remembers all recall, and what one deletes none recalls."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import configuration, eventually
from tests.fakes.upstream import FakeUpstream
from tests.fakes.worker_group import WorkerGroup, running_workers

CAT = "My cat is called Miso."
QUESTION = "What is my cat called?"
_PROBES = itertools.count()


@pytest.fixture
async def group(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> AsyncIterator[WorkerGroup]:
    async with running_workers(configuration(tmp_path, upstream.url, **changes)) as workers:
        yield workers


async def recalls(group: WorkerGroup, number: int, upstream: FakeUpstream, text: str = "Miso", **options: Any) -> bool:
    """True if a worker injects a text into a question about the cat."""
    session = f"probe {next(_PROBES)}"
    reply = await group[number].chat(QUESTION, session=session, headers={"x-memory-mode": "read"}, **options)
    assert reply.status == 200
    return text in json.dumps(upstream.last.json["messages"][:-1]) + upstream.last.json["messages"][-1]["content"]


async def all_recall(group: WorkerGroup, upstream: FakeUpstream, text: str = "Miso", **options: Any) -> None:
    for number in range(group.count):
        await eventually(lambda number=number: recalls(group, number, upstream, text, **options))  # type: ignore[misc]


async def memories(group: WorkerGroup, user: str = "ada") -> list[dict[str, Any]]:
    reply = await group[0].get(f"/v1/memory/list?user={user}&kind=turn&limit=100")
    assert reply.status == 200, reply.body
    return list(reply.json["data"])


@pytest.mark.parametrize("writer", [0, 1, 2])
async def test_a_memory_of_one_worker_is_recalled_by_all(
    group: WorkerGroup, upstream: FakeUpstream, writer: int
) -> None:
    for number in range(3):
        assert not await recalls(group, number, upstream), "loaded before"
    await group[writer].chat(CAT)
    await all_recall(group, upstream)
    await group[writer].chat("My dog is called Rex.", user="ben")
    for number in range(3):
        assert not await recalls(group, number, upstream, "Rex"), "of another user"


async def test_memories_are_recalled_from_the_table_too(group: WorkerGroup, upstream: FakeUpstream) -> None:
    await group[1].chat(CAT)
    await group[0].settled()
    await all_recall(group, upstream)
    assert len([memory for memory in await memories(group) if memory["text"] == CAT]) == 1


async def test_a_deleted_memory_is_recalled_by_none_once_the_deletion_is_acknowledged(
    group: WorkerGroup, upstream: FakeUpstream
) -> None:
    await group[2].chat(CAT)
    await all_recall(group, upstream)
    for memory in await memories(group):
        reply = await group[0].session.delete(f"{group[0].url}/v1/memory/{memory['id']}")
        assert reply.status in (200, 204, 404)
    for number in range(3):
        assert not await recalls(group, number, upstream), number
    assert group.ended == []
    await group[0].settled()
    for number in range(3):
        assert not await recalls(group, number, upstream), number


async def test_a_forgotten_user_is_forgotten_by_all(group: WorkerGroup, upstream: FakeUpstream) -> None:
    await group[1].chat(CAT)
    await all_recall(group, upstream)
    reply = await group[0].post("/v1/memory/forget", {"user": "ada", "purge": True})
    assert reply.status == 200, reply.body
    for number in range(3):
        assert not await recalls(group, number, upstream), number
    await group[2].chat("My cat is called Luna.")
    await all_recall(group, upstream, "Luna")
    assert len(await memories(group)) >= 1, "its scope is registered again"


async def test_a_retry_in_another_worker_is_stored_once(group: WorkerGroup) -> None:
    await asyncio.gather(*(group[number].chat(CAT, session="now") for number in range(3)))
    await group[1].chat(CAT, session="now")
    await group[0].settled()
    assert [memory["text"] for memory in await memories(group)].count(CAT) == 1


async def test_a_conversation_without_an_id_has_one_name_in_all_workers(group: WorkerGroup) -> None:
    messages = [{"role": "user", "content": CAT}]
    for number in (1, 0, 2, 1):
        await group[number].chat("", messages=messages)
        answer = {"role": "assistant", "content": "Understood."}
        messages = [*messages, answer, {"role": "user", "content": f"I have {number} dogs since {len(messages)} days."}]
    await group[0].settled()
    sessions = {memory["session_id"] for memory in await memories(group)}
    assert len(sessions) == 1, sessions


async def test_a_message_that_a_conversation_repeats_is_stored_once(group: WorkerGroup) -> None:
    await group[1].chat("", session="a", messages=[{"role": "user", "content": CAT}])
    messages = [{"role": "user", "content": CAT}, {"role": "user", "content": "I live in Lisbon."}]
    await group[2].chat("", session="a", messages=messages)
    await group[0].settled()
    texts = [memory["text"] for memory in await memories(group)]
    assert (texts.count(CAT), texts.count("I live in Lisbon.")) == (1, 1)


async def test_an_edited_memory_is_recalled_by_all_in_its_new_form(group: WorkerGroup, upstream: FakeUpstream) -> None:
    await group[1].chat(CAT)
    await all_recall(group, upstream)
    memory = next(memory for memory in await memories(group) if memory["text"] == CAT)
    url = f"{group[0].url}/v1/memory/{memory['id']}"
    async with group[0].session.patch(url, json={"text": "My cat is called Pixel."}) as reply:
        assert reply.status == 200, await reply.text()
    for number in range(3):
        assert await recalls(group, number, upstream, "Pixel"), number


async def test_workers_go_on_without_the_owner_and_nothing_is_lost(group: WorkerGroup, upstream: FakeUpstream) -> None:
    await group[1].chat(CAT)
    await all_recall(group, upstream)
    await group.stop(0)
    assert await recalls(group, 1, upstream), "from RAM"
    reply = await group[2].chat("I live in Lisbon, near the river.")
    assert reply.status == 200
    assert reply.headers["x-memory-status"] != "degraded"
    await group.start(0)
    await group.ready()
    await all_recall(group, upstream)
    texts = [memory["text"] for memory in await memories(group)]
    assert (texts.count(CAT), texts.count("I live in Lisbon, near the river.")) == (1, 1)


async def test_a_worker_that_starts_later_has_what_the_table_does_not_have(
    group: WorkerGroup, upstream: FakeUpstream
) -> None:
    await group.stop(2)
    await group[1].chat(CAT)
    await eventually(lambda: recalls(group, 0, upstream))
    await group.start(2)
    await group.ready([2])
    await eventually(lambda: recalls(group, 2, upstream))


@pytest.mark.parametrize("changes", [{"memory__recall__placement": "sticky"}])
async def test_a_block_that_one_worker_injected_is_injected_again_by_another(
    group: WorkerGroup, upstream: FakeUpstream
) -> None:
    await group[0].chat(CAT, session="before")
    await all_recall(group, upstream)
    first = [{"role": "user", "content": QUESTION}]
    await group[1].chat("", session="now", messages=first)
    sent = upstream.last.json["messages"]
    assert "Miso" in json.dumps(sent)
    later = [*first, {"role": "assistant", "content": "Miso."}, {"role": "user", "content": "Thank you."}]
    for number in (2, 0, 1):
        await group[number].chat("", session="now", messages=later, headers={"x-memory-mode": "read"})
        assert upstream.last.json["messages"][: len(sent)] == sent, number
