"""The rows of a cluster: taken from a data folder, and given back to one."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from gateway.storage.errors import StorageError
from gateway.storage.moved_tables import ENTRIES, MOVED_TABLES, MovedRows
from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.postgres.moved_rows import PostgresRows
from gateway.storage.postgres.parts import build_extraction_queue
from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.sqlite.moved_rows import SqliteRows
from tests.cluster.logs import BUCKETS, bucket_of
from tests.fakes.moved import ROWS, SCOPES


async def copy(source: MovedRows, target: MovedRows) -> None:
    for table in MOVED_TABLES:
        async for rows in source.read(table):
            await target.write(table, rows)
    await target.continue_after(await source.newest_seq())


@pytest.fixture
def rows(database: PostgresDatabase) -> PostgresRows:
    return PostgresRows(database, bucket_of, lambda: BUCKETS)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[SqliteRows]:
    """A folder with rows in all tables."""
    folder = SqliteRows(tmp_path / "folder")
    await folder.open()
    for table in MOVED_TABLES:
        await folder.write(table, ROWS[table.name])
    await folder.continue_after(20)
    yield folder
    await folder.close()


async def test_rows_go_to_a_cluster_and_back_unchanged(rows: PostgresRows, folder: SqliteRows, tmp_path: Path) -> None:
    await copy(folder, rows)
    back = SqliteRows(tmp_path / "back")
    await back.open()
    await copy(rows, back)
    for table in MOVED_TABLES:
        assert await rows.count(table) == await back.count(table) == len(ROWS[table.name]), table.name
        values = [row async for batch in back.read(table) for row in batch]
        assert sorted(values, key=repr) == sorted(ROWS[table.name], key=repr)
    assert await rows.newest_seq() == await back.newest_seq() == 20
    await back.close()


async def test_entries_get_what_the_log_of_a_cluster_needs(
    rows: PostgresRows, folder: SqliteRows, database: PostgresDatabase
) -> None:
    await copy(folder, rows)
    described = await database.read("SELECT seq, bucket, scope, is_tombstone FROM entries ORDER BY seq")
    assert described == [
        (1, 0, "", False),
        (2, 0, SCOPES[0], False),
        (5, 1, SCOPES[1], False),
        (6, 2, SCOPES[2], False),
        (7, 3, SCOPES[3], True),
        (9, 1, SCOPES[1], False),
    ]
    new = "INSERT INTO entries (id, bucket, scope, at, is_tombstone) VALUES ('n', 0, 's', 0, false) RETURNING seq"
    assert await database.read(new) == [(21,)]


async def test_a_cluster_is_empty_until_it_has_rows_and_after_it_was_cleared(
    rows: PostgresRows, folder: SqliteRows, database_url: str
) -> None:
    assert await rows.find_content() is None
    await copy(folder, rows)
    assert await rows.find_content() == "scopes"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"INSERT INTO memory_gateway.documents VALUES ('move', '{}'), ('memory', '{}')")
    await rows.clear()
    assert await rows.find_content() is None
    assert await rows.newest_seq() == 0
    await copy(folder, rows)
    assert await rows.count(ENTRIES) == len(ROWS["entries"])


async def test_extraction_goes_on_where_it_was(
    rows: PostgresRows, folder: SqliteRows, database_url: str, tmp_path: Path, database: PostgresDatabase
) -> None:
    await copy(folder, rows)
    queue = build_extraction_queue(database_url)
    await queue.open(9.0)
    assert await queue.positions() == dict.fromkeys(range(BUCKETS), 5)
    assert await queue.began() == 1.5
    # bucket 1 has noted all, bucket 0 has not noted its entry with the number 2
    await database.write("UPDATE places SET value=? WHERE name=?", [(1, "position"), (19, "position:1")])
    await queue.close()
    back = SqliteRows(tmp_path / "back")
    await back.open()
    await copy(rows, back)
    await back.close()
    earlier = SqliteExtractionQueue(tmp_path / "back" / "learning.sqlite")
    await earlier.open(9.0)
    assert await earlier.positions() == {0: 1}
    await earlier.close()


async def test_a_batch_that_cannot_be_written_adds_no_row(rows: PostgresRows) -> None:
    with pytest.raises(StorageError):
        await rows.write(ENTRIES, [*ROWS["entries"], ROWS["entries"][0]])
    assert await rows.count(ENTRIES) == 0
