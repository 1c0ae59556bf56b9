"""Tables that a catalog names and a folder has not, or the other way round: what a copy of a folder can be."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.storage.folder import DataFolder
from gateway.storage.lance import rebuild as rebuild_module
from gateway.storage.lance.scan import tables_with
from gateway.storage.lance.store import MemoryStore
from tests.unit.storage.lance.test_store import ADA, MADE, row


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[DataFolder]:
    made = DataFolder(tmp_path / "data")
    await asyncio.to_thread(made.open, 1, "e", 4)
    yield made
    made.close()


async def texts(folder: DataFolder) -> tuple[list[str], list[str]]:
    """What a store that is opened now holds, and the tables that it mended."""
    store = MemoryStore(folder, MADE)
    await store.open()
    try:
        return [record.text for record in (await store.load(ADA)).records()], list(store.repaired)
    finally:
        await store.close()


async def test_tables_that_a_copied_catalog_does_not_name_are_found_again(folder: DataFolder) -> None:
    store = MemoryStore(folder, MADE)
    await store.open()
    await store.add([row(f"text {number}", number) for number in range(20)])
    await store.rebuilder.rebuild(0, MADE, None)
    catalog = folder.path / "tables.json"
    before = catalog.read_bytes()
    await store.add([row("later", 20)])
    await store.purge([ADA.value])
    await store.add([row("latest", 21)])
    await store.close()
    catalog.write_bytes(before)  # copied before the purge, the tables after it
    held, mended = await texts(folder)
    assert held == [*(f"text {number}" for number in range(20)), "later", "latest"]
    assert mended
    assert await texts(folder) == (held, []), "and that is noted"


async def test_without_a_whole_table_all_that_is_there_counts(folder: DataFolder) -> None:
    store = MemoryStore(folder, MADE)
    await store.open()
    await store.add([row("one", 1)])
    await store.rebuilder.rebuild(0, MADE, None)
    await store.add([row("two", 2)])
    await store.close()
    settled = next(path for path in (folder.path / "lance").iterdir() if (path / "whole.txt").exists())
    shutil.rmtree(settled)
    held, mended = await texts(folder)
    assert "two" in held
    assert mended == [settled.stem]


async def test_a_settled_table_that_is_not_whole_does_not_count_alone(folder: DataFolder) -> None:
    store = MemoryStore(folder, MADE)
    await store.open()
    await store.add([row(f"text {number}", number) for number in range(10)])
    lance = folder.path / "lance"
    shutil.copytree(lance, folder.path / "copy")
    await store.rebuilder.rebuild(0, MADE, None)
    await store.close()
    settled = next(path for path in lance.iterdir() if (path / "whole.txt").exists())
    first = sorted((settled / "_versions").iterdir())
    for manifest in first[:-1]:  # the newest ones have the smallest names: only the empty version is left
        manifest.unlink()
    for table in (folder.path / "copy").iterdir():
        if not (lance / table.name).exists():
            shutil.copytree(table, lance / table.name)
    held, mended = await texts(folder)
    assert held == [f"text {number}" for number in range(10)]
    assert settled.stem in mended


async def test_a_damaged_index_is_made_anew(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild_module, "_ROWS_BEFORE_INDEX", 10)
    store = MemoryStore(folder, MADE)
    await store.open()
    await store.add([row(f"text {number}", number) for number in range(300)])
    await store.rebuilder.rebuild(0, MADE, None)
    await store.close()
    files = [path for path in (folder.path / "lance").rglob("_indices/*/*") if path.is_file()]
    assert files
    for file in files:
        file.write_bytes(b"")
    held, mended = await texts(folder)
    assert len(held) == 300
    assert mended
    assert await texts(folder) == (held, [])


async def test_a_rebuild_that_is_broken_off_leaves_no_table(folder: DataFolder) -> None:
    store = MemoryStore(folder, MADE)
    await store.open()
    await store.add([row("one", 1)])

    async def breaks_off(rows: object) -> list[object]:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await store.rebuilder.rebuild(0, MADE, breaks_off)  # type: ignore[arg-type]
    named = {entry.name for entry in store.buckets[0].entries}
    assert {path.stem for path in (folder.path / "lance").glob("*.lance")} == named
    await store.close()


async def test_texts_are_found_in_earlier_versions_too(folder: DataFolder) -> None:
    store = MemoryStore(folder, MADE)
    await store.open()
    first = row("a sentence that goes", 1)
    await store.add([first])
    await store.put([row("a sentence that stays", 1, id=first.record.id)])
    found = await tables_with(folder.path / "lance", ["a sentence that goes", "a sentence that stays", "no sentence"])
    assert list(found.values()) == [["a sentence that goes", "a sentence that stays"]]
    await store.close()
