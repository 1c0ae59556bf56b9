import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.sqlite.journal import Journal
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


def texts_on_the_disk(folder: Path) -> list[str | None]:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as connection:
        rows = connection.execute("SELECT payload FROM entries ORDER BY seq").fetchall()
    return [None if payload is None else json.loads(payload)["text"] for (payload,) in rows]


async def stored(journal: Journal) -> None:
    journal.mark_stored(await journal.waiting(100))
    await journal.mark_synced()


async def test_old_texts_leave_after_the_sync_and_the_newest_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.sqlite.journal_rows._MIN_RETAINED_TEXTS", 2)
    now = 1000.0
    monkeypatch.setattr("gateway.storage.sqlite.journal.time.time", lambda: now)
    journal = await opened(tmp_path)
    await journal.append([record(f"text {number}", number) for number in range(5)])
    await stored(journal)
    assert len(await journal.retained()) == 5, "they are young"
    now += 1000
    await journal.append([record("text 5", 5)])
    await stored(journal)
    assert [entry.record.text for entry in await journal.retained()] == ["text 4", "text 5"]
    assert texts_on_the_disk(tmp_path) == [None, None, None, None, "text 4", "text 5"]
    await journal.close()


async def test_the_text_of_what_was_deleted_leaves_with_the_sync(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    one, other = record("a very special sentence", 1), record("another", 2)
    await journal.append([one, other])
    await stored(journal)
    await journal.append([replace(one, text="a changed special sentence", version=2)])
    await stored(journal)
    await journal.append([replace(one, text="", status="deleted", version=3)])
    await stored(journal)
    assert texts_on_the_disk(tmp_path) == [None, "another", None, ""]
    assert [entry.record.status for entry in await journal.retained()] == ["activated", "deleted"]
    await journal.purge([])
    await journal.close()
    for file in tmp_path.iterdir():
        assert b"special sentence" not in file.read_bytes(), file.name


async def test_what_is_written_again_leaves_nothing_earlier_to_come_back(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    one = record("first", 1)
    await journal.append([one])
    await stored(journal)
    await journal.append([replace(one, text="", status="deleted", version=2)])
    await stored(journal)
    await journal.append([one], may_exist=True)
    await stored(journal)
    assert [entry.record.text for entry in await journal.retained()] == ["first"], "its deletion is over"
    await journal.close()


async def test_what_the_store_has_lost_waits_again(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append([record("a", 1), record("b", 2)])
    await stored(journal)
    await journal.requeue([entry for entry in await journal.retained() if entry.record.text == "b"])
    (entry,) = await journal.waiting(10)
    assert entry.record.text == "b"
    assert journal.backlog_entries == 1
    await journal.close()
    journal = await opened(tmp_path)
    assert (await journal.waiting(10))[0].is_replay
    await journal.close()


async def test_what_could_not_be_stored_can_be_given_up(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append([record("mine", 1), record("theirs", 2)])
    await journal.mark_failed(await journal.waiting(10))
    newest, _ = await journal.position()
    await journal.append([record("just said", 3)])
    unstored = await journal.unstored(newest)
    assert [entry.record.text for entry in unstored] == ["mine", "theirs"]
    await journal.discard(unstored[:1])
    assert texts_on_the_disk(tmp_path) == ["theirs", "just said"]
    assert journal.backlog_entries == 2
    await journal.close()


async def test_the_earlier_text_of_what_was_changed_leaves_with_the_sync(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    one = record("an earlier sentence", 1)
    await journal.append([one])
    await stored(journal)
    await journal.append([replace(one, text="a later one", version=2)])
    await stored(journal)
    assert texts_on_the_disk(tmp_path) == [None, "a later one"]
    await journal.close()


async def test_a_failed_entry_waits_longer_each_time_and_goes_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway.storage.sqlite.journal.time.time", lambda: now)
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
    with pytest.raises(StorageError, match="limit"):
        await journal.append([record("b", 2)])
    await journal.close()


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
async def test_a_failed_commit_keeps_nothing_and_later_ones_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    is_broken = False

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> Any:
            if is_broken and sql.startswith(statement):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *rest)

        def executemany(self, sql: str, rows: Any) -> Any:
            if is_broken and statement == "INSERT":
                raise sqlite3.OperationalError("disk I/O error")
            return super().executemany(sql, rows)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Connection))
    journal = await opened(tmp_path)
    is_broken = True
    with pytest.raises(StorageError):
        await journal.append([record("lost", 1)])
    is_broken = False
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
    with pytest.raises(StorageError, match="not open"):
        await journal.append([record("b", 2)])


async def test_new_entries_are_given_from_memory_and_after_an_overflow_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.sqlite.fresh_entries._MAX_ENTRIES", 10)
    journal = await opened(tmp_path)
    assert await journal.waiting(10) == []
    first = record("kept", 0)
    await journal.append([first])
    assert (await journal.waiting(10))[0].record is first, "not read back"
    await journal.append([record(f"text {number}", number) for number in range(1, 20)])
    texts = []
    while entries := await journal.waiting(4):
        texts += [entry.record.text for entry in entries]
        journal.mark_searchable(entries)
    assert texts == ["kept", *(f"text {number}" for number in range(1, 20))]
    assert await journal.position() == (20, 21), "all can be found"
    assert journal.backlog_entries == 20, "none is stored"
    await journal.close()
    journal = await opened(tmp_path)
    assert len(await journal.waiting(100)) == 20
    await journal.close()


async def test_a_retry_that_recall_has_is_not_due_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.storage.sqlite.journal._FIRST_PAUSE", 0.0)
    journal = await opened(tmp_path)
    await journal.append([record("a", 1), record("b", 2)])
    entries = await journal.waiting(10)
    await journal.mark_failed(entries)
    assert await journal.next_due() is not None
    journal.mark_stored(entries[:1])
    journal.mark_stored(entries[:1])
    assert journal.backlog_entries == 1
    assert await journal.next_due() is not None
    journal.mark_stored(entries[1:])
    assert await journal.next_due() is None, "it is in the table, and not synced yet"
    await journal.close()


async def test_a_clock_that_is_set_back_delays_no_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10**9
    monkeypatch.setattr("gateway.storage.sqlite.journal.time.time", lambda: now)
    journal = await opened(tmp_path)
    await journal.append([record("bad", 1)])
    await journal.mark_failed(await journal.waiting(10))
    assert await journal.waiting(10) == []
    now -= 86_400
    due = await journal.next_due()
    assert due is not None
    assert due <= now + 60
    assert [entry.record.text for entry in await journal.waiting(10)] == ["bad"]
    await journal.close()
