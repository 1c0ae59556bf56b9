import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.remember import writer as writer_module
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

    async def add(self, rows: list[Row]) -> None:
        self.rows |= {row.record.id: row for row in rows}
        self.writes.append((len(rows), False))

    async def put(self, rows: list[Row]) -> list[Row]:
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


async def test_the_journal_is_drained_in_batches_and_let_go_after_the_sync(tmp_path: Path) -> None:
    store = Store()
    told: list[str] = []
    writer: Writer | None = None
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: writer.wake() if writer else None)
    await journal.open()
    await journal.append([record(f"left over {number}", number) for number in range(3)])
    await journal.close()
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: writer.wake() if writer else None)
    await journal.open()

    async def on_rows(rows: Any) -> None:
        told.extend(row.record.text for row in rows)

    parts: dict[str, Any] = {"journal": journal, "store": store, "embedders": Embedders(), "telemetry": Telemetry()}
    writer = Writer(**parts, count=len, on_rows=on_rows, batch_window=0.01)
    await writer.start()
    assert await writer.drained(5)
    assert store.writes == [(3, True)]
    await journal.append([record(f"new {number}", number) for number in range(5)])
    assert await writer.drained(5)
    assert store.writes[1:] == [(5, False)]
    assert len(told) == 8
    row = store.rows[record("new 0", 0).id]
    assert (row.terms[:2], row.tokens, row.embedder) == (("new", "0"), 5, "e")
    await eventually(lambda: store.synced > 0)
    await writer.stop()
    await journal.close()


async def test_writing_goes_on_while_tables_are_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_SYNC_EVERY", 0.0)
    gate = asyncio.Event()

    class Slow(Store):
        async def maintain(self) -> AsyncIterator[None]:
            await gate.wait()
            yield
            raise StorageError("store", "and it may fail")

    store = Slow()
    writer: Writer | None = None
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: writer.wake() if writer else None)
    await journal.open()
    parts: dict[str, Any] = {"journal": journal, "store": store, "embedders": Embedders(), "telemetry": Telemetry()}

    async def on_rows(rows: Any) -> None: ...

    writer = Writer(**parts, count=len, on_rows=on_rows, batch_window=0.01)
    await writer.start()
    for number in range(3):
        await journal.append([record(f"said {number}", number)])
        assert await writer.drained(5)
    assert len(store.rows) == 3
    gate.set()
    await writer.stop()
    await journal.close()


async def test_a_deletion_needs_no_embedder(tmp_path: Path) -> None:
    embedders = Embedders()
    asked: list[str] = []

    async def picky(texts: Any) -> Any:
        asked.extend(texts)
        return np.full((len(texts), 4), 0.5, np.float32)

    embedders.current.embed_documents = picky  # type: ignore[method-assign]
    store = Store()
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: None)
    await journal.open()
    gone = record("", 2, status="deleted", version=2)
    await journal.append([record("said", 1), gone])
    parts: dict[str, Any] = {"journal": journal, "store": store, "embedders": embedders, "telemetry": Telemetry()}

    async def on_rows(rows: Any) -> None: ...

    writer = Writer(**parts, count=len, on_rows=on_rows, batch_window=0.01)
    await writer.start()
    assert await writer.drained(5)
    assert asked == ["said"]
    assert (store.rows[gone.id].embedder, store.rows[gone.id].vector) == ("", None)
    await writer.stop()
    await journal.close()
