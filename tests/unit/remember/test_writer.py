import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.embedding.embedders import EmbedFailed
from gateway.remember import writer as writer_module
from gateway.remember.row_builder import RowBuilder
from gateway.remember.writer import Writer
from gateway.storage.errors import StorageError
from gateway.storage.rows import Row, RowFormat
from gateway.storage.sqlite.journal import Journal
from gateway.telemetry import Telemetry
from tests.fakes.made import record
from tests.fakes.running import eventually


class Embedder:
    name = "e"
    dimensions = 4

    async def embed_documents(self, texts: list[str]) -> Any:
        return np.ones((len(texts), 4), np.float32)


class Embedders:
    def __init__(self) -> None:
        self.current = Embedder()

    def named(self, name: str) -> Embedder | None:
        return self.current if name == "e" else None


class Store:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.writes: list[tuple[int, bool]] = []
        self.synced = 0
        self.failing: str | None = None  # text of a record that cannot be stored; `outage`: none can

    def _check(self, rows: list[Row]) -> None:
        if self.failing == "outage":
            raise StorageError("store", "no disk", is_outage=True)
        if any(row.record.text == self.failing for row in rows):
            raise StorageError("store", "not this one")

    async def add(self, rows: list[Row]) -> None:
        self._check(rows)
        self.rows |= {row.record.id: row for row in rows}
        self.writes.append((len(rows), False))

    async def put(self, rows: list[Row]) -> list[Row]:
        self._check(rows)
        self.rows |= {row.record.id: row for row in rows}
        self.writes.append((len(rows), True))
        return rows

    def format_of(self, scope: str) -> RowFormat:
        return RowFormat("e", 4, 2)

    async def sync(self) -> None:
        self.synced += 1

    async def probe(self, scope: str) -> None: ...

    async def maintain(self) -> AsyncIterator[None]:
        for _ in range(2):
            yield


class Index:
    """What recall finds, and what of it is not stored."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.unstored: set[str] = set()
        self.retracted: list[str] = []

    async def add_unstored(self, rows: Sequence[Row]) -> None:
        await self.apply(rows)
        self.unstored |= {row.record.id for row in rows}

    async def apply(self, rows: Sequence[Row]) -> None:
        self.rows |= {row.record.id: row for row in rows}

    def mark_stored(self, rows: Iterable[Row]) -> None:
        self.unstored -= {row.record.id for row in rows}

    def retract(self, rows: Sequence[Row]) -> None:
        self.mark_stored(rows)
        self.retracted += [row.record.text for row in rows]
        for row in rows:
            del self.rows[row.record.id]

    @property
    def texts(self) -> set[str]:
        return {row.record.text for row in self.rows.values()}


class Made:
    """A writer between a real journal and a store of this test's own."""

    def __init__(self, folder: Path, store: Store, window: float) -> None:
        self.store, self.index, self.embedders = store, Index(), Embedders()
        self.stored: list[str] = []
        self.journal = Journal(folder / "j.sqlite", 10**9, lambda: self.writer.wake())  # noqa: PLW0108 — the writer is made below

        async def on_stored(rows: Sequence[Row]) -> None:
            self.stored += [row.record.text for row in rows]

        self.writer = Writer(
            self.journal,
            store,  # type: ignore[arg-type]  # a store of this test's own
            RowBuilder(self.embedders, store.format_of, len),  # type: ignore[arg-type]  # so are these
            self.index,
            Telemetry(),
            on_stored=on_stored,
            batch_window=window,
        )


@asynccontextmanager
async def running(folder: Path, store: Store, window: float = 0.01) -> AsyncIterator[Made]:
    made = Made(folder, store, window)
    await made.journal.open()
    await made.writer.start()
    yield made
    await made.writer.stop()
    await made.journal.close()


async def test_the_journal_is_drained_in_batches_and_let_go_after_the_sync(tmp_path: Path) -> None:
    store = Store()
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: None)
    await journal.open()
    await journal.append([record(f"left over {number}", number) for number in range(3)])
    await journal.close()
    async with running(tmp_path, store) as made:
        assert await made.writer.drained(5)
        assert store.writes == [(3, True)]
        await made.journal.append([record(f"new {number}", number) for number in range(5)])
        assert await made.writer.drained(5)
        assert store.writes[1:] == [(5, False)]
        assert len(made.stored) == 8
        row = store.rows[record("new 0", 0).id]
        assert (row.terms[:2], row.tokens, row.embedder) == (("new", "0"), 5, "e")
        await eventually(lambda: store.synced > 0)


async def test_new_memories_are_searchable_at_once_and_stored_in_one_batch(tmp_path: Path) -> None:
    store = Store()
    async with running(tmp_path, store, window=60) as made:
        for number in range(3):
            await made.journal.append([record(f"said {number}", number)])
            assert await made.writer.searchable(5)
            assert f"said {number}" in made.index.texts
        assert store.writes == []
        assert len(made.index.unstored) == 3
        assert made.journal.backlog_entries == 3
        assert await made.writer.synced(5), "a caller that waits ends the window"
        assert store.writes == [(3, False)]
        assert (made.index.unstored, made.journal.backlog_entries) == (set(), 0)


async def test_entries_are_gathered_for_a_moment_unless_a_caller_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_GATHERING", 60)
    batches: list[int] = []
    async with running(tmp_path, Store(), window=60) as made:

        async def embed(texts: list[str]) -> Any:
            batches.append(len(texts))
            return np.ones((len(texts), 4), np.float32)

        made.embedders.current.embed_documents = embed  # type: ignore[method-assign]
        for number in range(3):
            await made.journal.append([record(f"said {number}", number)])
        assert not made.index.rows
        assert await made.writer.searchable(5)
        assert (batches, len(made.index.rows)) == ([3], 3)


async def test_a_window_ends_by_its_time_or_by_a_full_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_BATCH", 4)
    store = Store()
    async with running(tmp_path, store, window=60) as made:
        await made.journal.append([record(f"said {number}", number) for number in range(9)])
        assert await made.writer.searchable(5)
        await eventually(lambda: len(store.rows) == 8)
        assert store.writes == [(4, False), (4, False)]
    assert store.writes[2:] == [(1, True)], "the rest is stored at the stop"
    async with running(tmp_path, store, window=0.05) as made:
        await made.journal.append([record("later", 50)])
        await eventually(lambda: record("later", 50).id in store.rows)


async def test_changes_and_imports_are_compared_with_the_stored_versions(tmp_path: Path) -> None:
    store = Store()
    first = record("first", 1)
    async with running(tmp_path, store, window=60) as made:
        await made.journal.append([first])
        assert await made.writer.searchable(5)
        await made.journal.append([replace(first, text="second", version=2)])
        assert await made.writer.searchable(5)
        assert made.index.texts == {"second"}
        assert store.writes == []
        await made.journal.append([record("imported", 2)], may_exist=True)
        assert await made.writer.searchable(5)
        assert store.writes == [(2, True), (1, True)], "an import is stored after all before it"
        assert made.index.texts == {"second", "imported"}
        assert not made.index.unstored


async def test_a_memory_that_cannot_be_stored_is_not_found_and_stops_no_other(tmp_path: Path) -> None:
    store = Store()
    store.failing = "poison"
    async with running(tmp_path, store) as made:
        await made.journal.append([record(text, number) for number, text in enumerate(("a", "poison", "b"))])
        assert await made.writer.drained(5)
        assert {row.record.text for row in store.rows.values()} == {"a", "b"}
        assert (made.index.texts, made.index.retracted) == ({"a", "b"}, ["poison"])
        assert made.journal.backlog_entries == 1
        store.failing = None
        await eventually(lambda: made.index.texts == {"a", "b", "poison"}, 5)
        assert made.journal.backlog_entries == 0


async def test_during_an_outage_of_the_store_memories_are_found_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_MAX_UNSTORED", 6)
    monkeypatch.setattr(writer_module, "_BATCH", 2)
    store = Store()
    store.failing = "outage"
    async with running(tmp_path, store) as made:
        for number in range(10):
            await made.journal.append([record(f"said {number}", number)])
        await eventually(lambda: len(made.index.rows) >= 6)
        assert not await made.writer.drained(0.3)
        assert len(made.index.rows) < 10, "what recall holds without the store is limited"
        store.failing = None
        assert await made.writer.drained(10)
        assert len(store.rows) == len(made.index.rows) == 10
        assert made.index.retracted == []
        assert made.journal.aside_entries == 0


async def test_writing_goes_on_while_tables_are_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_SYNC_EVERY", 0.0)
    gate = asyncio.Event()

    class Slow(Store):
        async def maintain(self) -> AsyncIterator[None]:
            await gate.wait()
            yield
            raise StorageError("store", "and it may fail")

    store = Slow()
    async with running(tmp_path, store) as made:
        for number in range(3):
            await made.journal.append([record(f"said {number}", number)])
            assert await made.writer.drained(5)
        assert len(store.rows) == 3
        gate.set()


async def test_a_deletion_needs_no_embedder(tmp_path: Path) -> None:
    asked: list[str] = []

    async def picky(texts: Any) -> Any:
        asked.extend(texts)
        return np.full((len(texts), 4), 0.5, np.float32)

    store = Store()
    async with running(tmp_path, store) as made:
        made.embedders.current.embed_documents = picky  # type: ignore[method-assign]
        gone = record("", 2, status="deleted", version=2)
        await made.journal.append([record("said", 1), gone])
        assert await made.writer.drained(5)
        assert asked == ["said"]
        assert (store.rows[gone.id].embedder, store.rows[gone.id].vector) == ("", None)


async def test_an_import_that_is_stored_during_a_sync_is_not_done_by_it(tmp_path: Path) -> None:
    gate = asyncio.Event()

    class Slow(Store):
        def __init__(self) -> None:
            super().__init__()
            self.durable: set[str] = set()
            self.begun = asyncio.Event()

        async def sync(self) -> None:
            ids = set(self.rows)
            self.begun.set()
            await asyncio.wait_for(gate.wait(), 5)
            self.durable = ids

    store = Slow()
    async with running(tmp_path, store) as made:
        await made.journal.append([record("first", 1)])
        assert await made.writer.drained(5)
        await eventually(store.begun.is_set)
        await made.journal.append([record("imported", 2)], may_exist=True)
        assert not await made.writer.drained(0.1)
        gate.set()
        assert await made.writer.synced(5)
        assert record("imported", 2).id in store.durable
        assert {entry.record.text for entry in await made.journal.retained()} == {"first", "imported"}


async def test_a_row_older_than_the_stored_version_is_found_no_longer(tmp_path: Path) -> None:
    class Newer(Store):
        async def put(self, rows: list[Row]) -> list[Row]:
            await super().put(rows)
            return []

    store = Newer()
    async with running(tmp_path, store) as made:
        await made.journal.append([record("first", 2)])
        assert await made.writer.drained(5)
        await made.journal.append([record("overtaken", 1, version=2)])
        assert await made.writer.drained(5)
        assert (made.index.retracted, made.stored) == (["overtaken"], ["first"])


async def test_a_row_that_was_rejected_is_stored_again_as_it_is(tmp_path: Path) -> None:
    store = Store()
    store.failing = "poison"
    async with running(tmp_path, store, window=60) as made:
        await made.journal.append([record(text, number) for number, text in enumerate(("a", "poison"))])
        assert await made.writer.searchable(5)

        async def fail(texts: Any) -> Any:
            raise EmbedFailed("no embedder")

        made.embedders.current.embed_documents = fail  # type: ignore[method-assign]
        await made.writer.drained(1)
        assert record("a", 0).id in store.rows, "a row needs no embedder twice"


async def test_a_fault_of_the_last_write_does_not_stop_the_stop(tmp_path: Path) -> None:
    class Broken(Store):
        async def put(self, rows: list[Row]) -> list[Row]:
            raise TypeError("not to be converted")

    store = Broken()
    async with running(tmp_path, store, window=60) as made:
        await made.journal.append([record("said", 1)])
        assert await made.writer.searchable(5)
    assert made.journal.backlog_entries == 1
