"""Tests of a journal that several processes append to: here several objects on one file, which SQLite cannot tell
apart from processes."""

import asyncio
from dataclasses import replace
from pathlib import Path

from gateway.storage.sqlite.database import Sharing
from gateway.storage.sqlite.journal import Journal
from gateway.storage.values import Claim
from tests.fakes.made import record


async def open_journal(folder: Path, sharing: Sharing, max_bytes: int = 10**9) -> Journal:
    journal = Journal(folder / "journal.sqlite", max_bytes, lambda: None, sharing=sharing)
    await journal.open()
    return journal


async def open_both(folder: Path) -> tuple[Journal, Journal]:
    """The journals of an owner and of another process."""
    return await open_journal(folder, Sharing.OWNER), await open_journal(folder, Sharing.FOLLOWER)


def claim(fingerprint: str, turn: str, at: float, *, seconds: float = 120.0) -> Claim:
    return Claim(fingerprint.encode(), turn, at, seconds, "scope")


async def test_the_owner_takes_entries_of_others_once_and_in_order(tmp_path: Path) -> None:
    owner, other = await open_both(tmp_path)
    assert await owner.waiting(10) == []
    numbers = []
    for number in range(0, 6, 2):
        numbers.append(await other.append([record(f"text {number}", number)]))
        numbers.append(await owner.append([record(f"text {number + 1}", number + 1)]))
    assert numbers == [1, 2, 3, 4, 5, 6]
    await other.append([record("text 6", 6)])
    await owner.catch_up()
    await owner.catch_up()
    entries = await owner.waiting(10)
    assert [(entry.seq, entry.record.text) for entry in entries] == [(n + 1, f"text {n}") for n in range(7)]
    assert not any(entry.is_replay for entry in entries)
    assert (owner.last_seq, owner.backlog_entries) == (7, 7)
    owner.mark_searchable(entries)
    owner.mark_stored(entries)
    await owner.mark_synced()
    assert owner.backlog_entries == 0
    assert await owner.waiting(10) == []
    await other.close()
    await owner.close()


async def test_entries_of_others_are_taken_after_they_were_read_from_the_file(tmp_path: Path) -> None:
    owner, other = await open_both(tmp_path)
    await other.append([record("first", 1)])
    entries = await owner.waiting(10)  # not caught up: they come from the file
    assert [entry.record.text for entry in entries] == ["first"]
    owner.mark_searchable(entries)
    await owner.catch_up()
    assert await owner.waiting(10) == []
    owner.mark_stored(entries)
    await owner.mark_synced()
    assert owner.backlog_entries == 0
    await other.close()
    await owner.close()


async def test_a_recount_does_not_count_entries_that_are_taken_later(tmp_path: Path) -> None:
    owner, other = await open_both(tmp_path)
    await other.append([record("first", 1)])
    await owner.requeue([])  # counts the file
    await owner.catch_up()
    entries = await owner.waiting(10)
    assert owner.backlog_entries == 1
    owner.mark_stored(entries)
    await owner.mark_synced()
    assert (owner.backlog_entries, owner.backlog_bytes) == (0, 0)
    await other.close()
    await owner.close()


async def test_many_appends_of_several_processes_are_all_taken(tmp_path: Path) -> None:
    owner = await open_journal(tmp_path, Sharing.OWNER)
    others = [await open_journal(tmp_path, Sharing.FOLLOWER) for _ in range(3)]
    journals = [owner, *others]

    async def append(index: int) -> None:
        for number in range(50):
            await journals[index].append([record(f"{index} {number}", index * 50 + number)])

    await asyncio.gather(*map(append, range(4)))
    await owner.catch_up()
    entries = await owner.waiting(1000)
    assert len(entries) == 200
    assert [entry.seq for entry in entries] == sorted({entry.seq for entry in entries})
    for index in range(4):
        texts = [entry.record.text for entry in entries if entry.record.text.startswith(f"{index} ")]
        assert texts == [f"{index} {number}" for number in range(50)], "in the order of each process"
    for journal in journals[::-1]:
        await journal.close()


async def test_opening_in_another_process_changes_nothing(tmp_path: Path) -> None:
    owner = await open_journal(tmp_path, Sharing.OWNER)
    await owner.append([record("a", 1)])
    for _ in range(5):
        await owner.mark_failed(await owner.waiting(10) or await owner.unstored(10))
    assert owner.aside_entries == 1
    other = await open_journal(tmp_path, Sharing.FOLLOWER)
    await owner.mark_failed([])
    assert owner.aside_entries == 1, "the dead letter waits for the owner's next start"
    await other.close()
    await owner.close()


async def test_a_message_is_claimed_by_one_turn(tmp_path: Path) -> None:
    owner, other = await open_both(tmp_path)
    first, retry = record("hello", 1), record("hello", 2)
    await owner.append([first], claims={first.id: claim("hello", "turn 1", 1000.0)})
    await other.append([retry], claims={retry.id: claim("hello", "turn 2", 1119.0)})
    twin = record("hello", 3)
    await other.append([twin], claims={twin.id: claim("hello", "turn 1", 1001.0)})
    later = record("hello", 4)
    await other.append([later], claims={later.id: claim("hello", "turn 3", 1122.0)})
    await owner.catch_up()
    assert [entry.record.id for entry in await owner.waiting(10)] == [first.id, twin.id, later.id]
    await owner.drop_claims(["scope"])
    again = record("hello", 5)
    await other.append([again], claims={again.id: claim("hello", "turn 4", 1123.0)})
    await owner.catch_up()
    assert (await owner.waiting(10))[-1].record.id == again.id
    await other.close()
    await owner.close()


async def test_a_refused_claim_leaves_the_other_records_of_the_append(tmp_path: Path) -> None:
    owner, other = await open_both(tmp_path)
    first = record("hello", 1)
    await owner.append([first], claims={first.id: claim("hello", "turn 1", 1000.0)})
    retry, answer = record("hello", 2), replace(record("hi", 3), source="assistant")
    await other.append([retry, answer], claims={retry.id: claim("hello", "turn 2", 1001.0)})
    await owner.catch_up()
    assert [entry.record.id for entry in await owner.waiting(10)] == [first.id, answer.id]
    await other.close()
    await owner.close()
