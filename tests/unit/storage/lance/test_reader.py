"""A store that reads what another process writes: here another object on the same folder."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from tests.fakes.running import eventually
from tests.unit.storage.lance.test_store import ADA, MADE, row


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(tmp_path / "data")
    folder.open(1, "e", 4)
    yield folder
    folder.close()


@pytest.fixture
async def writer(folder: DataFolder) -> AsyncIterator[MemoryStore]:
    store = MemoryStore(folder, MADE)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def reader(writer: MemoryStore, folder: DataFolder) -> AsyncIterator[MemoryStore]:
    store = MemoryStore(folder, MADE, is_reader=True)
    await store.open()
    yield store
    await store.close()


async def texts(store: MemoryStore) -> list[str]:
    return [record.text for record in (await store.load(ADA)).records()]


async def test_purges_disturb_no_reader(writer: MemoryStore, reader: MemoryStore) -> None:
    await writer.add([row(f"text {number}", number) for number in range(20)])
    expected = [f"text {number}" for number in range(20)]
    is_over, counts = False, [0] * 4

    async def read(number: int) -> None:
        while not is_over:
            loaded, candidates, larger = await asyncio.gather(
                texts(reader), reader.near(ADA, ["text"], None), reader.is_larger(ADA, 19)
            )
            assert loaded == expected
            assert len(candidates) == 20
            assert larger
            counts[number] += 1

    reading = [asyncio.create_task(read(number)) for number in range(4)]
    for round_ in range(15):
        await writer.purge([ADA.value])
        await eventually(lambda round_=round_: min(counts) > round_ or any(task.done() for task in reading))  # type: ignore[misc]
    is_over = True
    await asyncio.gather(*reading)


async def test_tables_that_could_not_be_opened_are_opened_later(
    writer: MemoryStore, reader: MemoryStore, folder: DataFolder
) -> None:
    await writer.add([row("one", 1)])
    assert await texts(reader) == ["one"]
    await writer.rebuilder.rebuild(0, MADE, None)
    await writer.add([row("two", 2)])
    lance, aside = folder.path / "lance", folder.path / "aside"
    lance.rename(aside)  # as a file system that is away for a moment, or a process without free descriptors
    with pytest.raises(StorageError):
        await texts(reader)
    aside.rename(lance)
    assert await texts(reader) == ["one", "two"]
