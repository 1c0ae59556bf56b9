"""Memory breaks; chat does not. What was said meanwhile is remembered when memory is back."""

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.folder import FolderRefused
from gateway.storage.lance.buckets import Buckets
from gateway.storage.lance.store import MemoryStore
from gateway.storage.sqlite.journal import Journal
from tests.fakes.faults import refuse_texts_with
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, running_upstream, says


async def test_a_chat_before_memory_is_loaded_is_served_and_says_so(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__recall__start_wait=0)
    async with running_gateway(config, wait=False) as gateway:
        reply = await gateway.chat("My boat is called Albatross.", session="one")
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded")
        assert await gateway.gateway.memory.ready(30)
        assert (await gateway.get("/ready")).json["memory"] == "ready"


async def test_a_chat_while_the_memory_loads_waits_for_it(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__recall__start_wait=30)
    for told in (True, False):
        async with running_gateway(config, wait=False) as gateway:
            assert (await gateway.get("/ready")).json["memory"] == "loading", "nobody else waits"
            off = await gateway.chat("hi", headers={"x-memory-mode": "off"})
            assert off.headers["x-memory-status"] == "off"
            text = "My boat is called Albatross." if told else "What is my boat called?"
            reply = await gateway.chat(text, session=text)
            assert reply.headers["x-memory-status"] == ("miss" if told else "hit")
            listed = await gateway.get("/v1/memory/list?user=ada")
            assert listed.status == 200
            await gateway.settled()


async def test_a_memory_that_cannot_be_loaded_is_not_called_loading(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: MemoryStore) -> None:
        raise StorageError("store", "the table cannot be read")

    monkeypatch.setattr(MemoryStore, "open", broken)
    async with running_gateway(configuration(tmp_path, upstream.url), wait=False) as gateway:

        async def has_failed() -> bool:
            return bool((await gateway.get("/ready")).json["memory"] == "degraded: store")

        await eventually(has_failed)
        assert b"gateway_memory_ready 0.0" in (await gateway.get("/metrics")).body
        began = time.monotonic()
        reply = await gateway.chat("My boat is called Albatross.")
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded")
        assert time.monotonic() - began < 1, "there is nothing to wait for"
        for path in ("/v1/memory/list?user=ada", "/v1/memory/search?user=ada&query=boat"):
            refused = await gateway.get(path)
            assert refused.status == 503
            assert "loading" not in refused.error["message"]
        memos = await gateway.post("/product/get_memory", {"mem_cube_id": "ada", "user_id": "ada"})
        assert (memos.status, "store failed" in memos.json["message"]) == (503, True)


async def test_a_full_disk_stops_no_chat(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, batch: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "_insert", full)
    for stream in (False, True):
        reply = await gateway.chat(f"My boat is called Albatross, stream {stream}.", stream=stream)
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded"), "told, not hidden"
    added = await gateway.post("/product/add", {"user_id": "ada", "messages": "x y z"})
    assert (added.status, added.json["code"]) == (503, 503)
    assert 'gateway_remembered_records_total{result="late"}' in (await gateway.get("/metrics")).body.decode()
    monkeypatch.undo()
    assert (await gateway.post("/product/add", {"user_id": "ada", "messages": "x y z"})).status == 200
    await eventually(lambda: not gateway.gateway.memory.remember.is_late, 10)
    await gateway.settled()
    healed = await gateway.chat("What is my boat called?", session="later", headers={"x-memory-mode": "read"})
    assert healed.headers["x-memory-status"] == "hit"
    for way in ("False", "True"):
        assert f"Albatross, stream {way}" in upstream.last.body.decode(), "remembered when the disk was there again"


async def test_a_store_that_is_moved_away_and_back_loses_nothing(gateway: Running, upstream: FakeUpstream) -> None:
    folder = gateway.gateway.memory.folder / "lance"
    for number in range(5):
        await gateway.chat(f"Before it went, fact {number}.", user=f"user{number}")
    await gateway.settled()
    away = folder.with_name("lance.away")
    await asyncio.to_thread(folder.rename, away)
    for number in range(8):
        reply = await gateway.chat(f"While it was away, fact {number}.", user=f"user{number}")
        assert reply.status == 200
    await eventually(lambda: gateway.metric("gateway_drain_failures_total", cause="StoreFailed") > 0, 10)
    assert gateway.gateway.memory.journal.backlog_entries >= 8, (
        "nothing was written into a folder that nobody will find"
    )
    if await asyncio.to_thread(folder.exists):  # LanceDB may make one for what it reads
        await asyncio.to_thread(shutil.rmtree, folder)
    await asyncio.to_thread(away.rename, folder)
    await gateway.settled(40)
    lines = (await gateway.get("/v1/memory/export")).body.decode()
    for number in range(5):
        assert f"Before it went, fact {number}." in lines
    for number in range(8):
        assert f"While it was away, fact {number}." in lines
    assert (await gateway.get("/ready")).json["journal_aside"] == 0


async def test_what_went_aside_is_tried_again_at_the_next_start(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, upstream.url)
    with monkeypatch.context() as broken:
        refuse_texts_with("indigestible", broken)
        broken.setattr("gateway.storage.sqlite.journal._FIRST_PAUSE", 0.02)
        async with running_gateway(config) as gateway:
            await gateway.chat("An indigestible truth.")
            await eventually(lambda: gateway.gateway.memory.journal.aside_entries == 1, timeout=20)
    async with running_gateway(config) as gateway:
        await gateway.settled()
        assert "An indigestible truth." in (await gateway.get("/v1/memory/export")).body.decode()


async def test_a_long_backlog_is_synced_on_the_way(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.remember.writer._SYNC_EVERY", 0.0)
    monkeypatch.setattr("gateway.remember.writer._BATCH", 10)
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        journal = gateway.gateway.memory.journal
        left: list[int] = []
        sync = journal.mark_synced

        async def noting() -> None:
            left.append(journal.backlog_entries)
            await sync()

        monkeypatch.setattr(journal, "mark_synced", noting)
        messages = [{"role": "user", "content": f"Fact number {number}."} for number in range(100)]
        await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "async"})
        await gateway.settled()
        assert any(count > 10 for count in left), "before its end"


async def test_a_broken_store_stops_no_chat_and_heals(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StorageError("store", "the disk is gone")

    with monkeypatch.context() as broken_store:
        broken_store.setattr(MemoryStore, "load", broken)
        broken_store.setattr(Buckets, "write", broken)
        reply = await gateway.chat("My boat is called Albatross.", session="one")
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded")
        search = await gateway.post("/product/search", {"user_id": "ada", "query": "boat"})
        assert (search.status, search.json["code"]) == (503, 503)
        await eventually(lambda: "StoreFailed" in gateway.gateway.telemetry.exposition().decode())
    await gateway.settled(20)
    await gateway.chat("What is my boat called?", session="two")
    assert "Albatross" in upstream.last.body.decode()


async def test_a_poisoned_record_goes_aside_and_blocks_nobody(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_texts_with("poison", monkeypatch)
    monkeypatch.setattr("gateway.storage.sqlite.journal._FIRST_PAUSE", 0.02)
    for text in ("poison apple", "My boat is called Albatross."):
        await gateway.chat(text, session="one", headers={"x-memory-mode": "write"})
    await eventually(lambda: gateway.gateway.memory.journal.backlog_entries == 0, timeout=20)
    assert gateway.gateway.memory.journal.aside_entries == 1
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "boat Albatross Kiel", "relativity": 0})
    assert "Albatross" in found.body.decode()
    assert "poison" not in found.body.decode()


async def test_a_dead_embedder_leaves_the_search_by_words(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.embedding.embedders.OpenAIEmbedder._REST", 0.3)
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
    with pytest.raises(StorageError):
        await journal.append([])
    await journal.open()
    assert await journal.waiting(10) == []
    await journal.close()
