import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.identity import scope_of
from gateway.store.folder import DataFolder
from gateway.store.memories import MemoryStore, Row, StoreFailed
from tests.fakes.made import record

ADA, BOB = scope_of("t", "ada"), scope_of("t", "bob")


def row(text: str, number: int, scope: str = ADA.value, **fields: Any) -> Row:
    vector = np.full(4, 0.5, np.float32)
    made = record(text, number, scope=scope, **fields)
    return Row(record=made, vector=vector, embedder="e", terms=("a", "猫"), tokens=7, seq=number)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = DataFolder(tmp_path / "data")
    made.open(2, "e", 4)
    yield made
    made.close()


@pytest.fixture
async def store(folder: DataFolder) -> AsyncIterator[MemoryStore]:
    made = MemoryStore(folder, 4)
    await made.open()
    yield made
    await made.close()


async def test_rows_come_back_whole_and_in_order(store: MemoryStore) -> None:
    fields: dict[str, Any] = {
        "tags": ("x", "y"),
        "info": {"deep": [1, {"a": None}]},
        "links": ("l",),
        "part": 3,
        "confidence": 0.5,
    }
    written = [row(f"text 猫 {number}", number, **fields) for number in (3, 1, 2)]
    await store.write(written, may_exist=False)
    loaded = await store.load(ADA, 100)
    assert [one.seq for one in loaded] == [1, 2, 3]
    one, expected = loaded[0], written[1]
    assert one.record == expected.record
    assert (one.terms, one.tokens, one.embedder) == (expected.terms, expected.tokens, expected.embedder)
    assert one.vector is not None
    assert one.vector.tolist() == [0.5] * 4
    assert [one.seq for one in await store.load(ADA, 2)] == [2, 3]


async def test_scopes_are_kept_apart(store: MemoryStore) -> None:
    await store.write([row("a", 1), row("b", 2, BOB.value)], may_exist=False)
    assert [one.record.text for one in await store.load(ADA, 9)] == ["a"]
    assert [one.record.text for one in await store.load(BOB, 9)] == ["b"]
    with pytest.raises(ValueError, match="64 hex"):
        await store.load(dataclasses.replace(ADA, value="' OR 1=1 --" + "a" * 53), 9)


async def test_what_may_exist_is_replaced_not_doubled(store: MemoryStore) -> None:
    await store.write([row("old", 1, id="i")], may_exist=False)
    await store.write([row("new", 1, id="i"), row("newest", 1, id="i")], may_exist=True)
    assert [one.record.text for one in await store.load(ADA, 9)] == ["newest"]


async def test_many_small_writes_are_compacted(store: MemoryStore) -> None:
    for number in range(101):
        await store.write([row(f"t{number}", number)], may_exist=False)
    assert await store.maintain() == 1
    assert len(await store.load(ADA, 999)) == 101
    assert await store.maintain() == 0
    await store.sync()
    await store.probe()


async def test_a_row_without_a_vector_is_kept(store: MemoryStore) -> None:
    bare = Row(record=record("bare", 1, scope=ADA.value), vector=None, embedder="", terms=(), tokens=1, seq=1)
    await store.write([bare, row("full", 2)], may_exist=False)
    loaded = await store.load(ADA, 9)
    assert loaded[0].vector is None
    assert loaded[1].vector is not None


async def test_a_closed_store_says_so(folder: DataFolder) -> None:
    store = MemoryStore(folder, 4)
    for call in (store.load(ADA, 1), store.write([row("a", 1)], may_exist=False), store.probe()):
        with pytest.raises(StoreFailed, match="not open"):
            await call


async def test_a_broken_store_fails_in_its_own_words(store: MemoryStore, folder: DataFolder) -> None:
    await store.write([row("a", 1)], may_exist=False)
    for file in (folder.path / "lance").rglob("*.lance"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(StoreFailed):
        await store.load(ADA, 9)
