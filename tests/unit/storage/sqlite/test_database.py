import sqlite3
from pathlib import Path

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.sqlite.database import Database


async def test_a_transaction_that_fails_for_any_reason_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    file = Database(tmp_path / "new" / "f.sqlite", "thing", ["CREATE TABLE t (a TEXT)"])
    with pytest.raises(StorageError, match="the thing is closed"):
        await file.run(lambda: file.connection)
    await file.open()
    assert file.is_open

    def insert(value: str) -> None:
        file.transaction(lambda connection: connection.executemany("INSERT INTO t VALUES (?)", [("a",), (value,)]))

    with pytest.raises(UnicodeEncodeError):
        await file.run(lambda: insert("\ud800"))
    await file.run(lambda: insert("b"))
    assert await file.run(lambda: file.connection.execute("SELECT a FROM t").fetchall()) == [("a",), ("b",)]
    await file.close()
    assert not file.is_open


async def test_errors_of_sqlite_name_the_part(tmp_path: Path) -> None:
    file = Database(tmp_path / "f.sqlite", "thing", ["CREATE TABLE t (a)"])
    await file.open()
    with pytest.raises(StorageError) as caught:
        await file.run(lambda: file.connection.execute("SELECT nothing FROM nowhere"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert caught.value.part == "thing"
    await file.close()


@pytest.mark.parametrize("damage", ["head", "middle"])
async def test_a_damaged_file_is_moved_aside_and_what_can_be_read_is_kept(tmp_path: Path, damage: str) -> None:
    schema = "CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)"
    file = Database(tmp_path / "f.sqlite", "thing", [schema])
    await file.open()
    rows = [(number, f"row {number} " * 20) for number in range(500)]
    await file.run(lambda: file.transaction(lambda one: one.executemany("INSERT INTO t VALUES (?, ?)", rows).rowcount))
    await file.close()
    raw = bytearray((tmp_path / "f.sqlite").read_bytes())
    begin = 0 if damage == "head" else len(raw) * 2 // 3 // 4096 * 4096
    raw[begin : begin + 4096] = b"\x07" * 4096
    (tmp_path / "f.sqlite").write_bytes(raw)
    file = Database(tmp_path / "f.sqlite", "thing", [schema])
    await file.open()
    kept = await file.run(lambda: file.connection.execute("SELECT count(*) FROM t").fetchone()[0])
    assert kept == 0 if damage == "head" else 440 < kept < 500, "what stands after the damage too"
    await file.run(lambda: file.transaction(lambda one: one.execute("INSERT INTO t VALUES (1000, 'new')").rowcount))
    await file.close()
    assert list(tmp_path.glob("f.sqlite.broken-*"))


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


async def test_each_migration_runs_once_and_in_order(tmp_path: Path) -> None:
    first = "CREATE TABLE t (a);\nCREATE INDEX t_by_a ON t (a);"
    database = Database(tmp_path / "f.sqlite", "thing", [first])
    assert await database.open()
    assert not await database.open(), "it is open"
    await database.write("INSERT INTO t VALUES (?)", [(1,), (2,)])
    await database.close()
    assert version_of(tmp_path / "f.sqlite") == 1

    def double(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE t SET a=a*2")

    for _ in range(2):
        database = Database(tmp_path / "f.sqlite", "thing", [first, "ALTER TABLE t ADD COLUMN b DEFAULT 7", double])
        await database.open()
        assert await database.read("SELECT a, b FROM t WHERE a>?", (2,)) == [(4, 7)]
        await database.close()
    assert version_of(tmp_path / "f.sqlite") == 3


async def test_a_migration_that_fails_changes_nothing_and_is_repeated(tmp_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE other (a)")
        raise sqlite3.OperationalError("disk I/O error")

    database = Database(tmp_path / "f.sqlite", "thing", ["CREATE TABLE t (a)", fail])
    with pytest.raises(StorageError, match="disk I/O error"):
        await database.open()
    assert version_of(tmp_path / "f.sqlite") == 1
    database = Database(tmp_path / "f.sqlite", "thing", ["CREATE TABLE t (a)", "CREATE TABLE other (a)"])
    await database.open()
    assert await database.read("SELECT * FROM other") == []
    await database.close()


async def test_a_file_of_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    database = Database(tmp_path / "f.sqlite", "thing", ["CREATE TABLE t (a)", "CREATE TABLE u (a)"])
    await database.open()
    await database.close()
    with pytest.raises(StorageError, match="version 2; this version of the gateway reads 1"):
        await Database(tmp_path / "f.sqlite", "thing", ["CREATE TABLE t (a)"]).open()
    assert version_of(tmp_path / "f.sqlite") == 2
    assert not list(tmp_path.glob("*.broken-*"))
