"""Random sequences of writes, failures and restarts: no memory is lost, and none comes back that was deleted."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.embedding.embedders import EmbedFailed
from gateway.errors import MemoryUnavailable, NotFound
from gateway.maintenance.recovery import recover
from gateway.memory.record import Record
from gateway.recall.working_sets import WorkingSets
from gateway.remember import writer as writer_module
from gateway.remember.row_builder import RowBuilder
from gateway.remember.writer import Writer
from gateway.service import memories as service_module
from gateway.service.memories import MemoryService
from gateway.storage.errors import StorageError
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import LoadedRows, Row, RowFormat
from gateway.storage.sqlite import journal as journal_module
from gateway.storage.sqlite.journal import Journal
from gateway.telemetry import Telemetry
from gateway.turn import Scope
from tests.fakes.made import SCOPE, record
from tests.fakes.running import eventually

OTHER = Scope("b" * 64, "default", "bob")
SCOPES = (SCOPE, OTHER)
BATCH = 4
_T = TypeVar("_T")


class Embedder:
    dimensions = 4

    def __init__(self, name: str) -> None:
        self.name = name
        self.fails = False

    async def embed_documents(self, texts: Sequence[str]) -> Any:
        await asyncio.sleep(0)
        if self.fails:
            raise EmbedFailed("no embedder")
        return np.ones((len(texts), 4), np.float32)


class Embedders:
    def __init__(self) -> None:
        self.members = {name: Embedder(name) for name in ("old", "new")}
        self.current = self.members["old"]

    def named(self, name: str) -> Embedder | None:
        return self.members.get(name)


class Store:
    """A table that fails on demand. `durable` is what a power cut leaves."""

    is_durable = False

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.durable: list[Row] = []
        self.format = RowFormat("old", 4, 2)
        self.failing = ""
        self.is_large = False

    def format_of(self, scope: str) -> RowFormat:
        return self.format

    async def _write(self, rows: Sequence[Row]) -> None:
        await asyncio.sleep(0)
        if self.failing == "outage":
            raise StorageError("store", "no disk", is_outage=True)
        if any(row.embedder not in ("", self.format.embedder) for row in rows):
            raise StorageError("store", "the bucket was rebuilt meanwhile")
        if self.failing == "half":
            self.rows += rows[: len(rows) // 2]
            raise StorageError("store", "no disk", is_outage=True)
        if self.failing == "one" and any(int(row.record.id[0], 16) % 2 for row in rows):
            raise StorageError("store", "not this one")
        self.rows += rows
        await asyncio.sleep(0)

    async def add(self, rows: Sequence[Row]) -> None:
        ids = {row.record.id for row in rows}
        assert len(ids) == len(rows)
        await self._write(rows)

    async def put(self, rows: Sequence[Row]) -> list[Row]:
        newest: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            newest[row.record.id] = max((row.record.version, row.seq), newest.get(row.record.id, (0, 0)))
        current = [row for row in rows if (row.record.version, row.seq) >= newest.get(row.record.id, (0, 0))]
        await self._write(current)
        return current

    async def sync(self) -> None:
        rows = list(self.rows)
        for _ in range(3):
            await asyncio.sleep(0)
        if self.failing in ("outage", "sync"):
            raise StorageError("store", "no disk", is_outage=True)
        self.durable = rows

    async def probe(self, scope: str) -> None:
        if self.failing in ("outage", "half"):
            raise StorageError("store", "no disk", is_outage=True)

    async def maintain(self) -> AsyncIterator[None]:
        for _ in range(0):
            yield

    async def is_larger(self, scope: Scope, rows: int) -> bool:
        await asyncio.sleep(0)
        return self.is_large

    async def load(self, scope: Scope) -> LoadedRows:
        rows = list(self.rows)
        await asyncio.sleep(0)
        return LoadedRows([to_arrow(rows, 4)] if rows else [], scope)

    async def find(self, memory_ids: Iterable[str]) -> list[Record]:
        ids = set(memory_ids)
        rows = [row for row in self.rows if row.record.id in ids]
        return LoadedRows([to_arrow(rows, 4)]).records() if rows else []

    async def versions(self, records: Iterable[Record]) -> dict[str, tuple[int, str]]:
        ids = {record.id for record in records}
        newest: dict[str, tuple[int, str]] = {}
        for row in self.rows:
            if row.record.id in ids:
                newest[row.record.id] = max((row.record.version, row.record.scope), newest.get(row.record.id, (0, "")))
        return newest

    async def entries_since(self, seq: int) -> set[tuple[int, str]]:
        return {(row.seq, row.record.id) for row in self.rows if row.seq >= seq}


class Registry:
    async def scope(self, value: str) -> Scope | None:
        return next((scope for scope in SCOPES if scope.value == value), None)


class Startup:
    async def wait(self) -> None: ...


@dataclass
class Process:
    """The parts of one process that write memories."""

    journal: Journal
    writer: Writer
    sets: WorkingSets
    service: MemoryService


class WriterMachine(RuleBasedStateMachine):
    """`texts`: what users have stored, by id; None for a deleted memory."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "j.sqlite"
        self.store, self.embedders = Store(), Embedders()
        self.texts: dict[str, str | None] = {}
        self.scopes: dict[str, Scope] = {}
        self.numbers: dict[str, int] = {}
        self.count = 0
        self.is_exact = True  # no single entry has failed since the start
        self.changed: list[str] = []

    def run(self, work: Awaitable[_T]) -> _T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 5))

    @initialize()
    def begin(self) -> None:
        self.run(self.open())

    async def open(self) -> None:
        journal = Journal(self.path, 10**9, lambda: writer.wake())  # noqa: PLW0108 — the writer is made below
        await journal.open()
        sets = WorkingSets(self.store, Telemetry(), max_rows=10**6, max_bytes=10**9)  # type: ignore[arg-type]

        async def note(rows: Sequence[Row]) -> None: ...

        builder = RowBuilder(self.embedders, self.store.format_of, len)  # type: ignore[arg-type]
        writer = Writer(journal, self.store, builder, sets, Telemetry(), on_stored=note, batch_window=0.004)  # type: ignore[arg-type]

        async def add(turn: Any, records: Sequence[Record], same_within: float) -> list[Record]:
            await journal.append(records)
            return list(records)

        service = MemoryService(
            self.store,  # type: ignore[arg-type]
            Registry(),  # type: ignore[arg-type]
            add,
            journal.append,
            searchable=writer.searchable,
            drained=writer.drained,
            on_change=[self.changed.extend],
            startup=Startup(),  # type: ignore[arg-type]
        )
        await recover(journal, self.store)  # type: ignore[arg-type]
        await sets.mark_deleted(await journal.tombstones())
        await writer.start()
        service.ready(sets)
        self.process = Process(journal, writer, sets, service)
        has_failed = any(entry.record.id for entry in await journal.unstored(2**60))
        self.is_exact = self.store.failing != "one" and not has_failed

    @rule(count=st.integers(1, 2 * BATCH), scope=st.sampled_from(SCOPES))
    def add(self, count: int, scope: Scope) -> None:
        records = [
            record(f"text {self.count + number}", self.count + number, scope=scope.value) for number in range(count)
        ]
        self.count += count
        self.run(self.process.service.add(None, records))  # type: ignore[arg-type]
        self.texts |= {entry.id: entry.text for entry in records}
        self.scopes |= {entry.id: scope for entry in records}
        self.numbers |= {entry.id: self.count - count + number for number, entry in enumerate(records)}

    def pick(self, number: int) -> str | None:
        ids = [id_ for id_, text in self.texts.items() if text is not None]
        return ids[number % len(ids)] if ids else None

    async def find(self, id_: str) -> Record | None:
        records = await self.process.service.known(self.scopes[id_], [id_])
        return records[0] if records else None

    @rule(number=st.integers(0, 99))
    def edit(self, number: int) -> None:
        id_ = self.pick(number)

        async def work(id_: str) -> None:
            current = await self.find(id_)
            if current is None:
                assert self.may_fail
                return
            self.count += 1
            text = f"edit {self.count}"
            await self.process.service.edit(current, text=text)
            self.texts[id_] = text

        if id_ is not None:
            self.attempt(work(id_))

    @rule(numbers=st.lists(st.integers(0, 99), min_size=1, max_size=4))
    def delete(self, numbers: list[int]) -> None:
        ids = {id_ for number in numbers if (id_ := self.pick(number)) is not None}

        async def work() -> None:
            records = [current for id_ in sorted(ids) if (current := await self.find(id_)) is not None]
            await self.process.service.delete(records)
            self.texts |= {entry.id: None for entry in records}

        self.attempt(work())

    @rule(number=st.integers(0, 99))
    def delete_what_was_changed_since(self, number: int) -> None:
        id_ = self.pick(number)

        async def work(id_: str) -> None:
            earlier = await self.find(id_)
            if earlier is None:
                return
            for _ in range(2):
                self.count += 1
                text = f"edit {self.count}"
                await self.process.service.edit(earlier, text=text)
                self.texts[id_] = text
            if await self.process.service.delete([earlier]):
                self.texts[id_] = None

        if id_ is not None:
            self.attempt(work(id_))

    @property
    def may_fail(self) -> bool:
        return bool(self.store.failing) or self.embedders.current.fails or not self.is_exact

    def attempt(self, work: Awaitable[None]) -> None:
        try:
            self.run(work)
        except (MemoryUnavailable, NotFound):
            assert self.may_fail

    @rule(number=st.integers(0, 99))
    def restore(self, number: int) -> None:
        """An import of a memory that is there, or was deleted."""
        ids = list(self.texts)

        async def work() -> None:
            if not await self.process.writer.synced(0.1):
                return
            id_ = ids[number % len(ids)]
            versions = await self.store.versions([record("", id=id_)])
            if id_ not in versions:
                return
            self.count += 1
            text, version = f"import {self.count}", versions[id_][0] + 1
            item = record(text, self.numbers[id_], id=id_, scope=self.scopes[id_].value, version=version)
            await self.process.journal.append([item], may_exist=True)
            self.texts[id_] = item.text

        if ids and self.is_exact:
            self.run(work())

    @rule(failing=st.sampled_from(("", "", "outage", "half", "one", "sync")))
    def fail_store(self, failing: str) -> None:
        self.store.failing = failing
        self.is_exact = self.is_exact and failing not in ("one",)

    @rule(fails=st.booleans())
    def fail_embedder(self, fails: bool) -> None:
        self.embedders.current.fails = fails

    @rule()
    def rebuild(self) -> None:
        """The tables are rebuilt for another embedder."""
        self.embedders.current = self.embedders.members["new"]
        self.store.format = RowFormat("new", 4, 2)
        self.store.rows = [replace(row, embedder=row.embedder and "new") for row in self.store.rows]
        self.process.sets.drop([scope.value for scope in SCOPES])

    @rule()
    def evict(self) -> None:
        self.process.sets.drop([scope.value for scope in SCOPES])

    @rule()
    def load(self) -> None:
        async def work() -> None:
            for scope in SCOPES:
                await self.process.sets.get(scope)

        self.run(work())

    @rule(is_large=st.booleans())
    def grow(self, is_large: bool) -> None:
        self.store.is_large = is_large
        self.evict()

    @rule(seconds=st.sampled_from((0.0, 0.001, 0.006)))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(is_clean=st.booleans(), loses=st.booleans())
    def restart(self, is_clean: bool, loses: bool) -> None:
        tasks = asyncio.all_tasks(self.loop)

        async def work() -> None:
            if is_clean:
                await self.process.writer.stop()
                await self.process.sets.stop()
            else:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await self.process.journal.close()
            if loses:
                self.check_durable()
                self.store.rows = list(self.store.durable)
            await self.open()

        self.run(work())

    def check_durable(self) -> None:
        """Entries that are done are on the disk."""
        connection = sqlite3.connect(self.path)
        done = connection.execute("SELECT seq, id FROM entries WHERE state=1").fetchall()
        connection.close()
        newest: dict[str, int] = {}
        for row in self.store.durable:
            newest[row.record.id] = max(row.seq, newest.get(row.record.id, 0))
        for seq, id_ in done:
            assert newest.get(id_.partition(".")[0], 0) >= seq

    @invariant()
    def nothing_comes_back(self) -> None:
        if not hasattr(self, "process"):
            return

        async def look() -> dict[str, str]:
            visible: dict[str, str] = {}
            for scope in SCOPES:
                for entry in await self.process.service.records(scope, lambda entry: entry.status == "activated"):
                    assert entry.scope == scope.value
                    assert entry.id not in visible, "a memory is there twice"
                    visible[entry.id] = entry.text
            return visible

        is_found = self.run(self.process.writer.searchable(0.05))
        visible = self.run(look())
        deleted = {id_ for id_, text in self.texts.items() if text is None}
        assert not deleted & visible.keys()
        if is_found and self.is_exact:
            assert visible == {id_: text for id_, text in self.texts.items() if text is not None}
        if is_found:
            known = [
                entry for scope in SCOPES for entry in self.run(self.process.service.known(scope, self.texts.keys()))
            ]
            assert not deleted & {entry.id for entry in known}
            if self.is_exact:
                assert {entry.id: entry.text for entry in known} == visible

    def teardown(self) -> None:
        try:
            if hasattr(self, "process"):
                self.store.failing, self.embedders.current.fails = "", False
                self.embedders.members["old"].fails = False
                self.restart(True, False)
                self.run(eventually(lambda: self.process.journal.backlog_entries == 0, 4))
                assert self.run(self.process.writer.synced(4))
                self.is_exact = True
                self.nothing_comes_back()
                assert self.process.journal.backlog_entries == self.process.journal.aside_entries == 0
                assert self.process.journal.backlog_bytes == 0
                gone = [
                    record("", id=id_, scope=self.scopes[id_].value) for id_, text in self.texts.items() if not text
                ]
                assert not any(map(self.process.sets.is_marked_deleted, gone)), "the table has the deletions"
                stored = {
                    entry.id: entry.text
                    for scope in SCOPES
                    for entry in self.run(self.store.load(scope)).records()
                    if entry.status == "activated"
                }
                assert stored == {id_: text for id_, text in self.texts.items() if text is not None}
                self.check_durable()
                self.run(self.process.writer.stop())
                self.run(self.process.sets.stop())
                self.run(self.process.journal.close())
        finally:
            self.loop.close()
            self.folder.cleanup()


def test_no_memory_is_lost_and_none_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_BATCH", BATCH)
    monkeypatch.setattr(writer_module, "_MAX_UNSTORED", 4 * BATCH)
    monkeypatch.setattr(writer_module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(writer_module, "_LONGEST_PAUSE", 0.004)
    monkeypatch.setattr(writer_module, "_SYNC_EVERY", 0.005)
    monkeypatch.setattr(service_module, "_PATIENCE", 0.05)
    monkeypatch.setattr(journal_module, "_FIRST_PAUSE", 0.002)
    run_state_machine_as_test(
        WriterMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.generate],  # shrinking would take minutes
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
