"""Memory breaks; chat does not. What was said meanwhile is remembered when memory is back."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.store.folder import FolderRefused
from gateway.store.journal import Journal, JournalFailed
from gateway.store.memories import MemoryStore, StoreFailed
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, running_upstream, says


async def test_a_chat_before_memory_is_loaded_is_served_and_says_so(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url), wait=False) as gateway:
        reply = await gateway.chat("My boat is called Albatross.", session="one")
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded")
        assert await gateway.gateway.ready(30)
        assert (await gateway.get("/ready")).json["memory"] == "ready"


async def test_a_full_disk_stops_no_chat(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, batch: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "_insert", full)
    for stream in (False, True):
        assert (await gateway.chat("hi", stream=stream)).status == 200
    added = await gateway.post("/product/add", {"user_id": "ada", "messages": "x y z"})
    assert (added.status, added.json["code"]) == (503, 503)
    assert 'gateway_remembered_records_total{result="failed"}' in (await gateway.get("/metrics")).body.decode()
    monkeypatch.undo()
    assert (await gateway.post("/product/add", {"user_id": "ada", "messages": "x y z"})).status == 200


async def test_a_broken_store_stops_no_chat_and_heals(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StoreFailed("the disk is gone")

    with monkeypatch.context() as broken_store:
        broken_store.setattr(MemoryStore, "load", broken)
        broken_store.setattr(MemoryStore, "write", broken)
        reply = await gateway.chat("My boat is called Albatross.", session="one")
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded")
        search = await gateway.post("/product/search", {"user_id": "ada", "query": "boat"})
        assert (search.status, search.json["code"]) == (503, 503)
        await eventually(lambda: "StoreFailed" in gateway.gateway._telemetry.exposition().decode())
    await gateway.settled(20)
    await gateway.chat("What is my boat called?", session="two")
    assert "Albatross" in upstream.last.body.decode()


async def test_a_poisoned_record_goes_aside_and_blocks_nobody(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MemoryStore.write

    async def picky(self: MemoryStore, rows: Any, *, may_exist: bool) -> None:
        if any("poison" in row.record.text for row in rows):
            raise StoreFailed("cannot digest this")
        await write(self, rows, may_exist=may_exist)

    monkeypatch.setattr(MemoryStore, "write", picky)
    monkeypatch.setattr("gateway.store.journal._FIRST_PAUSE", 0.02)
    for text in ("poison apple", "My boat is called Albatross."):
        await gateway.chat(text, session="one", headers={"x-memory-mode": "write"})
    await eventually(lambda: gateway.gateway._journal.backlog_entries == 0, timeout=20)
    assert gateway.gateway._journal.aside_entries == 1
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "boat Albatross Kiel", "relativity": 0})
    assert "Albatross" in found.body.decode()
    assert "poison" not in found.body.decode()


async def test_a_dead_embedder_leaves_the_search_by_words(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.embed.OpenAIEmbedder._REST", 0.3)
    monkeypatch.setattr("gateway.remember.writer._LONGEST_PAUSE", 0.3)
    async with running_upstream() as embeddings:
        embedder = {"kind": "openai", "base_url": embeddings.url, "dimensions": 4, "timeout": 0.5}
        config = configuration(tmp_path, upstream.url, memory__embedder=embedder)
        vector = [0.5, 0.5, 0.5, 0.5]

        async def embed(request: Any) -> Any:
            asked = embeddings.last.json["input"]
            data = [{"index": index, "embedding": vector} for index in range(len(asked))]
            return await says(200, {"data": data})(request)

        embeddings.script = embed
        async with running_gateway(config) as gateway:
            await gateway.chat("My boat is called Albatross.", session="one")
            await gateway.settled()
            for failure in (
                says(500, b"no"),
                says(200, b"garbage"),
                says(200, {"data": [{"index": 0, "embedding": [1]}]}),
            ):
                embeddings.script = failure
                reply = await gateway.chat(f"What is my boat called? {id(failure)}", session="two")
                assert (reply.status, reply.headers["x-memory-status"]) == (200, "partial")
                assert "Albatross" in upstream.last.body.decode()
            embeddings.script = embed
            await gateway.chat("My harbour is Kiel.", session="one", headers={"x-memory-mode": "write"})
            await gateway.settled(30)


async def test_a_second_process_on_the_same_folder_is_refused_in_words(
    gateway: Running, tmp_path: Path, upstream: FakeUpstream
) -> None:
    with pytest.raises(FolderRefused, match="another process uses the data folder"):
        async with running_gateway(configuration(tmp_path, upstream.url)):
            pass


async def test_a_failed_commit_leaves_later_ones_intact(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: None)
    with pytest.raises(JournalFailed):
        await journal.append([])
    await journal.open()
    assert await journal.waiting(10) == []
    await journal.close()
