import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.store.journal import Journal, JournalFailed
from tests.fakes.made import record


async def opened(folder: Path, max_bytes: int = 10**9) -> Journal:
    journal = Journal(folder / "journal.sqlite", max_bytes, lambda: None)
    await journal.open()
    return journal


async def test_what_is_appended_is_read_back_in_order_also_after_a_restart(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    records = [record(f"text {number} 猫", number, tags=("a",), info={"k": [1]}) for number in range(5)]
    await asyncio.gather(*(journal.append([one]) for one in records))
    assert [entry.record for entry in await journal.waiting(10)] == records
    assert not (await journal.waiting(1))[0].is_replay
    await journal.close()
    journal = await opened(tmp_path)
    assert [entry.record for entry in await journal.waiting(10)] == records
    assert (await journal.waiting(1))[0].is_replay
    assert journal.backlog_entries == 5
    await journal.close()


async def test_an_id_is_taken_once(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append([record("a", 1)])
    await journal.append([record("a", 1)])
    assert len(await journal.waiting(10)) == 1
    journal.mark_stored(await journal.waiting(10))
    await journal.mark_synced()
    await journal.append([record("a", 1)])
    assert await journal.waiting(10) == []
    await journal.close()


async def test_what_was_stored_but_not_synced_comes_again_after_a_crash(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append([record("a", 1)])
    journal.mark_stored(await journal.waiting(10))
    assert await journal.waiting(10) == []
    await journal.close()
    journal = await opened(tmp_path)
    (entry,) = await journal.waiting(10)
    assert entry.is_replay
    await journal.close()


async def test_the_text_leaves_after_the_sync(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append([record("a very special sentence", 1)])
    journal.mark_stored(await journal.waiting(10))
    await journal.mark_synced()
    await journal.close()
    rows = sqlite3.connect(tmp_path / "journal.sqlite").execute("SELECT payload FROM entries").fetchall()
    assert rows == [(None,)]


async def test_a_failed_entry_waits_longer_each_time_and_goes_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway.store.journal.time.time", lambda: now)
    journal = await opened(tmp_path)
    await journal.append([record("bad", 1), record("good", 2)])
    pauses = []
    for _ in range(4):
        entry = (await journal.waiting(10))[0]
        assert await journal.mark_failed([entry]) == 0
        assert [one.record.text for one in await journal.waiting(10)] == ["good"]
        due = await journal.next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [0.5, 1, 2, 4]
    assert await journal.mark_failed([(await journal.waiting(10))[0]]) == 1
    assert journal.aside_entries == 1
    assert await journal.next_due() is None
    await journal.close()


async def test_a_full_backlog_takes_nothing_more(tmp_path: Path) -> None:
    journal = await opened(tmp_path, max_bytes=600)
    await journal.append([record("a", 1)])
    with pytest.raises(JournalFailed, match="limit"):
        await journal.append([record("b", 2)])
    await journal.close()


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
async def test_a_failed_commit_keeps_nothing_and_later_ones_work(tmp_path: Path, statement: str) -> None:
    journal = await opened(tmp_path)
    real = journal._file._connection

    class Failing:
        in_transaction = False
        total_changes = 0

        def execute(self, sql: str, *rest: Any) -> Any:
            if sql.startswith(statement):
                raise sqlite3.OperationalError("disk I/O error")
            return real.execute(sql, *rest)  # type: ignore[union-attr]  # it is open

        def executemany(self, sql: str, rows: Any) -> Any:
            if statement == "INSERT":
                raise sqlite3.OperationalError("disk I/O error")
            return real.executemany(sql, rows)  # type: ignore[union-attr]  # it is open

        def __getattribute__(self, name: str) -> Any:
            return (
                getattr(real, name) if name in ("in_transaction", "total_changes") else super().__getattribute__(name)
            )

    journal._file._connection = Failing()  # type: ignore[assignment]  # the shim
    with pytest.raises(JournalFailed):
        await journal.append([record("lost", 1)])
    journal._file._connection = real
    await journal.append([record("kept", 2)])
    assert [entry.record.text for entry in await journal.waiting(10)] == ["kept"]
    await journal.close()


async def test_an_append_tells_the_writer(tmp_path: Path) -> None:
    told = []
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: told.append(1))
    await journal.open()
    await journal.append([record("a", 1)])
    assert told
    await journal.close()
    with pytest.raises(JournalFailed, match="not open"):
        await journal.append([record("b", 2)])
