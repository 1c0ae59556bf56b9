import sqlite3
from pathlib import Path

import pytest

from gateway.storage.sqlite.database import SqliteFile


class Broken(Exception):
    """What the file's faults are raised as."""


async def test_a_transaction_that_fails_for_any_reason_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "new" / "f.sqlite", "CREATE TABLE t (a TEXT)", "thing", Broken)
    with pytest.raises(Broken, match="the thing is closed"):
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


async def test_what_sqlite_raises_is_raised_as_the_owners_failure(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "f.sqlite", "CREATE TABLE t (a)", "thing", Broken)
    await file.open()
    with pytest.raises(Broken) as caught:
        await file.run(lambda: file.connection.execute("SELECT nothing FROM nowhere"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    await file.close()


@pytest.mark.parametrize("damage", ["head", "middle"])
async def test_a_damaged_file_is_moved_aside_and_what_can_be_read_is_kept(tmp_path: Path, damage: str) -> None:
    schema = "CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)"
    file = SqliteFile(tmp_path / "f.sqlite", schema, "thing", Broken)
    await file.open()
    rows = [(number, f"row {number} " * 20) for number in range(500)]
    await file.run(lambda: file.transaction(lambda one: one.executemany("INSERT INTO t VALUES (?, ?)", rows).rowcount))
    await file.close()
    raw = bytearray((tmp_path / "f.sqlite").read_bytes())
    begin = 0 if damage == "head" else len(raw) * 2 // 3 // 4096 * 4096
    raw[begin : begin + 4096] = b"\x07" * 4096
    (tmp_path / "f.sqlite").write_bytes(raw)
    file = SqliteFile(tmp_path / "f.sqlite", schema, "thing", Broken)
    await file.open()
    kept = await file.run(lambda: file.connection.execute("SELECT count(*) FROM t").fetchone()[0])
    assert kept == 0 if damage == "head" else 440 < kept < 500, "what stands after the damage too"
    await file.run(lambda: file.transaction(lambda one: one.execute("INSERT INTO t VALUES (1000, 'new')").rowcount))
    await file.close()
    assert list(tmp_path.glob("f.sqlite.broken-*"))
