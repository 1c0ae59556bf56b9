"""A second store in the folder of another one, which writes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.folder import DataFolder
from gateway.storage.lance import rebuild
from gateway.storage.lance.store import MemoryStore
from tests.fakes.running import eventually
from tests.unit.storage.lance.test_store import ADA, BOB, MADE, row, texts


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    opened = DataFolder(tmp_path / "data")
    opened.open(2, "e", 4)
    yield opened
    opened.close()


@pytest.fixture
async def store(folder: DataFolder) -> AsyncIterator[MemoryStore]:
    opened = MemoryStore(folder, MADE)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def reader(store: MemoryStore, folder: DataFolder) -> AsyncIterator[MemoryStore]:
    opened = MemoryStore(folder, MADE, is_reader=True)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_reader_sees_what_the_writer_has_written(store: MemoryStore, reader: MemoryStore) -> None:
    assert texts(await reader.load(ADA)) == []
    await store.add([row("one", 1)])
    assert texts(await reader.load(ADA)) == ["one"]
    await store.add([row("two", 2), row("of bob", 3, BOB.value)])
    assert texts(await reader.load(ADA)) == ["one", "two"]
    await store.purge([ADA.value])  # replaces and drops the table that the reader has open
    assert texts(await reader.load(ADA)) == ["one", "two"]
    assert texts(await reader.load(BOB)) == ["of bob"]
    assert [record.text for record in await reader.find([row("two", 2).record.id])] == ["two"]


async def test_a_reader_changes_nothing(store: MemoryStore, reader: MemoryStore) -> None:
    await store.add([row("one", 1)])
    with pytest.raises(StorageError, match="another process"):
        await reader.add([row("two", 2)])
    assert texts(await reader.load(ADA)) == ["one"]
    with pytest.raises(StorageError, match="another process"):
        await reader.purge([ADA.value])
    assert [_ async for _ in reader.maintain()] == []
    assert await reader.purge_older(10**10) == 0
    assert await reader.older("turn", 10**10, 10) == []
    assert texts(await store.load(ADA)) == ["one"]


async def has_index_of_words(store: MemoryStore) -> bool:
    bucket = await store.buckets.ready(store.part_of(ADA.value))
    indexes = [index for _, table in bucket.tables for index in await table.list_indices()]
    return any("fts" in index.columns for index in indexes)


async def test_only_the_writer_indexes_words_and_the_reader_uses_its_index(
    store: MemoryStore, reader: MemoryStore
) -> None:
    await store.add([row(f"text {number}", number) for number in range(20)])
    assert len(await reader.near(ADA, ["a"], None)) == 20
    assert not await has_index_of_words(store)
    assert len(await store.near(ADA, ["a"], None)) == 20
    await eventually(lambda: has_index_of_words(store))
    assert await has_index_of_words(reader)
    assert len(await reader.near(ADA, ["a"], None)) == 20


async def test_a_rebuild_indexes_the_words_of_a_large_scope(
    store: MemoryStore, reader: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add([row(f"text {number}", number) for number in range(20)])
    monkeypatch.setattr(rebuild, "_LARGE_SCOPE", 21)
    await store.purge([ADA.value])
    assert not await has_index_of_words(reader)
    monkeypatch.setattr(rebuild, "_LARGE_SCOPE", 20)
    await store.purge([ADA.value])
    assert await has_index_of_words(reader)
