"""Properties of a log of records, on both engines: tests/cluster runs these tests on PostgreSQL."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from gateway.storage.errors import StorageError
from gateway.storage.protocols import RecordLog
from gateway.storage.values import Claim, GivenVector
from tests.fakes.logs import Logs
from tests.fakes.made import record


async def store(log: RecordLog) -> None:
    """Take all that waits, and mark it as the writer does."""
    entries = await log.waiting(1000)
    log.mark_searchable(entries)
    log.mark_stored(entries)
    await log.mark_synced()


async def texts(log: RecordLog) -> list[str]:
    return [entry.record.text for entry in await log.waiting(1000)]


async def test_entries_come_back_whole_and_in_order_also_after_a_restart(logs: Logs) -> None:
    woken = asyncio.Event()
    log = await logs.open(on_append=woken.set)
    records = [record(f"text {number} 猫\0\x01", number, tags=("a",), info={"k": [1]}) for number in range(40)]
    seqs = await asyncio.gather(*(log.append([one]) for one in records))
    assert woken.is_set()
    assert list(seqs) == sorted(seqs)
    assert [entry.record for entry in await log.waiting(100)] == records
    assert [entry.record for entry in await log.waiting(7)] == records[:7]
    assert not any(entry.is_replay for entry in await log.waiting(100))
    assert (log.last_seq, log.backlog_entries) == (seqs[-1], 40)
    await log.close()
    log = await logs.open()
    assert [entry.record for entry in await log.waiting(100)] == records
    assert all(entry.is_replay for entry in await log.waiting(100))
    assert log.backlog_entries == 40
    assert log.backlog_bytes > 0
    await log.close()


async def test_an_id_is_added_once_and_a_change_is_an_entry_of_its_own(logs: Logs) -> None:
    log = await logs.open()
    one = record("a", 1)
    first = await log.append([one])
    assert await log.append([one, one]) >= first
    assert await texts(log) == ["a"]
    await store(log)
    await log.append([one])
    assert await texts(log) == []
    changed = replace(one, text="b", version=2)
    assert await log.append([changed]) > first
    await log.append([changed])
    assert [entry.record for entry in await log.waiting(10)] == [changed]
    await log.append([one], may_exist=True)
    await log.append([one], may_exist=True)
    assert [entry.is_replay for entry in await log.waiting(10)][1:] == [True, True]
    await log.close()


async def test_what_recall_has_is_not_given_again_until_it_fails(logs: Logs) -> None:
    log = await logs.open()
    for number in range(4):
        await log.append([record(f"{number}", number)])
    first = await log.waiting(2)
    log.mark_searchable(first)
    assert await texts(log) == ["2", "3"]
    newest, missing = await log.position()
    assert missing == first[1].seq + 1
    assert await log.mark_failed(first) == 0
    due = await log.next_due()
    assert due is not None
    assert await texts(log) == ["2", "3"], "the failed ones wait for their next try"
    rest = await log.waiting(10)
    log.mark_searchable(rest)
    log.mark_stored(rest)
    await log.mark_synced()
    assert [entry.record.text for entry in await log.unstored(newest)] == ["0", "1"]
    assert log.backlog_entries == 2
    await log.discard(first)
    assert await log.unstored(newest) == []
    assert await log.position() == (newest, newest + 1)
    await log.close()


async def test_five_failures_make_a_dead_letter_until_the_next_start(logs: Logs) -> None:
    log = await logs.open()
    await log.append([record("bad", 1)])
    (entry,) = await log.waiting(10)
    assert [await log.mark_failed([entry]) for _ in range(5)] == [0, 0, 0, 0, 1]
    assert (log.backlog_entries, log.aside_entries) == (0, 1)
    assert await log.next_due() is None
    assert len(await log.unstored(entry.seq)) == 1
    await log.close()
    log = await logs.open()
    assert await texts(log) == ["bad"]
    assert (await log.waiting(1))[0].is_replay
    await log.close()


async def test_what_was_stored_but_not_synced_is_given_to_the_next_process(logs: Logs) -> None:
    log = await logs.open()
    await log.append([record("a", 1)])
    log.mark_stored(await log.waiting(10))
    assert await texts(log) == []
    assert log.backlog_entries == 0
    await log.close()
    log = await logs.open()
    assert await texts(log) == ["a"]
    await log.close()


async def test_deletions_and_their_texts(logs: Logs) -> None:
    log = await logs.open()
    one, other = record("special", 1), record('a text about "status":"deleted"', 2)
    await log.append([one, other])
    await store(log)
    deleted = replace(one, text="", status="deleted", version=2)
    await log.append([deleted])
    assert await log.tombstones() == [deleted]
    await store(log)
    assert await log.tombstones() == []
    assert [entry.record.text for entry in await log.retained()] == [other.text, ""]
    retained = await log.retained_ids()
    assert set(retained.values()) == {other.id, one.id}
    chosen = min(retained)
    assert [entry.record for entry in await log.retained([chosen])] == [other]
    await log.requeue(await log.retained([chosen]))
    assert await texts(log) == [other.text]
    await store(log)
    await log.purge([one.scope])
    assert await log.retained() == []
    await log.close()


async def test_a_full_backlog_refuses_and_takes_again_after_it_was_stored(logs: Logs) -> None:
    log = await logs.open(max_bytes=2000)
    await log.append([record("a" * 900, 1)])
    with pytest.raises(StorageError, match="the backlog is at its limit"):
        await log.append([record("b" * 900, 2)])
    await store(log)
    await log.append([record("b" * 900, 2)])
    await log.close()
    with pytest.raises(StorageError):
        await log.append([record("c", 3)])


async def test_a_vector_comes_with_its_record_or_is_missing(logs: Logs) -> None:
    log = await logs.open()
    one, other = record("a", 1), record("b", 2)
    assert await log.waiting(10) == []  # from now on the log has its new entries in memory, with their vectors
    vector = np.array([0.6, 0.8, 0.0, 0.0], np.float32)
    await log.append([one, other], vectors={one.id: GivenVector("e", vector)})
    first, second = await log.waiting(10)
    assert first.vector is not None
    assert first.vector.embedder == "e"
    assert np.abs(first.vector.vector - vector).max() < 1e-3
    assert second.vector is None
    await log.close()


async def test_a_message_that_another_turn_claimed_is_left_out(logs: Logs) -> None:
    log = await logs.open()

    async def append(number: int, turn: str, at: float) -> None:
        one = record("hello", number)
        await log.append([one], claims={one.id: Claim(b"hello", turn, at, 120.0, one.scope)})

    await append(1, "t1", 1000.0)
    await append(2, "t2", 1100.0)
    assert len(await log.waiting(10)) == 1, "sent again by the client"
    await append(3, "t1", 1050.0)
    assert len(await log.waiting(10)) == 2, "one turn may send it twice"
    await append(4, "t3", 1171.0)
    assert len(await log.waiting(10)) == 3, "the time is over"
    await log.drop_claims([record("hello", 1).scope])
    await append(5, "t4", 1172.0)
    assert len(await log.waiting(10)) == 4, "a deleted message may be sent again"
    await log.close()
