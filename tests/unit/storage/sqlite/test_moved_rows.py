"""The rows of a data folder, read in batches and written to another one."""

import sqlite3
from pathlib import Path

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.moved_tables import ENTRIES, MOVED_TABLES, MovedTable
from gateway.storage.sqlite.moved_rows import SqliteRows
from tests.fakes.moved import ROWS


async def read(rows: SqliteRows, table: MovedTable) -> list[tuple[object, ...]]:
    return [row async for batch in rows.read(table) for row in batch]


async def test_all_tables_are_copied_and_counted(tmp_path: Path) -> None:
    first, second = SqliteRows(tmp_path / "first"), SqliteRows(tmp_path / "second")
    for rows in (first, second):
        await rows.open()
    for table in MOVED_TABLES:
        await first.write(table, ROWS[table.name])
        assert await first.count(table) == len(ROWS[table.name])
        async for batch in first.read(table):
            await second.write(table, batch)
        assert sorted(await read(second, table), key=repr) == sorted(ROWS[table.name], key=repr)
    for rows in (first, second):
        await rows.close()


async def test_an_error_names_the_file(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "usage.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    rows = SqliteRows(tmp_path)
    with pytest.raises(StorageError, match=r"usage\.sqlite: its file has version 99"):
        await rows.open()
    await rows.close()
    connection.close()


async def test_many_rows_come_in_batches(tmp_path: Path) -> None:
    rows = SqliteRows(tmp_path)
    await rows.open()
    await rows.write(ENTRIES, [(seq, f"id{seq}", 1, 0, 0.0, 0.0, None) for seq in range(1, 1_202)])
    assert [len(batch) async for batch in rows.read(ENTRIES)] == [500, 500, 201]
    async for _ in rows.read(ENTRIES):
        break  # a copy that was given up
    await rows.write(ENTRIES, [(2_000, "last", 1, 0, 0.0, 0.0, None)])
    await rows.close()


async def test_the_journal_goes_on_after_numbers_that_it_no_longer_has(tmp_path: Path) -> None:
    rows = SqliteRows(tmp_path)
    await rows.open()
    assert await rows.newest_seq() == 0
    await rows.write(ENTRIES, [(7, "a", 0, 0, 0.0, 0.0, b"{}")])
    assert await rows.newest_seq() == 7
    await rows.continue_after(40)
    assert await rows.newest_seq() == 40
    await rows.write(ENTRIES, [(None, "b", 0, 0, 0.0, 0.0, b"{}")])
    assert [row[0] for row in await read(rows, ENTRIES)] == [7, 41]
    await rows.close()


async def test_names_that_no_key_of_a_cluster_can_have_are_cut_and_summed(tmp_path: Path) -> None:
    rows = SqliteRows(tmp_path)
    await rows.open()
    used = next(table for table in MOVED_TABLES if table.name == "used")
    model = "m" * 300
    await rows.write(used, [(0, "t", "k", "u", model + end, "up", 1, 2, 3, 4, 5, 0.5, 1) for end in "ab"])
    assert await read(rows, used) == [(0, "t", "k", "u", "m" * 200, "up", 2, 4, 6, 8, 10, 1.0, 2)]
    assert await rows.count(used) == 1
    await rows.close()


async def test_a_row_that_is_there_already_is_an_error(tmp_path: Path) -> None:
    rows = SqliteRows(tmp_path)
    await rows.open()
    await rows.write(ENTRIES, ROWS["entries"])
    with pytest.raises(StorageError, match="UNIQUE"):
        await rows.write(ENTRIES, ROWS["entries"])
    await rows.close()
