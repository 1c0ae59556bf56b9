"""The shared log: followed by all gateways, stored by the owners of buckets, and what crashes and lost leases do."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from gateway.memory.record import Record
from gateway.storage.errors import LeaseLost, StorageError
from gateway.storage.postgres import feed as feed_module
from gateway.storage.postgres.entries import collect_entries
from gateway.storage.postgres.feed import Feed, Followed
from gateway.storage.postgres.journal import PostgresJournal
from gateway.storage.postgres.leases import Leases
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.values import BucketBacklog, Claim
from tests.cluster.logs import BUCKETS, PostgresLogs, bucket_of
from tests.cluster.postgres import PostgresServer
from tests.fakes.link import running_link
from tests.fakes.made import record
from tests.fakes.upstream import pause

SCOPES = [f"{number:08x}" + "0" * 56 for number in range(BUCKETS)]
OF_ALL = dict.fromkeys(range(BUCKETS), 1)


@contextlib.asynccontextmanager
async def running_log(url: str) -> AsyncIterator[SharedLog]:
    log = SharedLog(url, bucket_of)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def running_leases(url: str, seconds: float = 3600.0) -> AsyncIterator[Leases]:
    leases = Leases(url, seconds=seconds)
    await leases.open()
    try:
        yield leases
    finally:
        await leases.close()


async def append(log: SharedLog, *records: Record) -> int:
    return (await log.append([collect_entries(records, "", {}, {})]))[1]


def numbered(number: int, text: str = "text") -> Record:
    return record(f"{text} {number}", number, scope=SCOPES[number % BUCKETS])


async def test_a_follower_misses_nothing_of_three_writers_with_slow_commits(database_url: str) -> None:
    """Transactions that hold numbers open while later ones commit: the trap of following a table by its numbers."""
    async with running_log(database_url) as reader:
        assert await reader.last_seq() == 0
    writers = [PostgresLogs(database_url) for _ in range(3)]
    logs = [await writer.open() for writer in writers]
    with psycopg.connect(database_url, autocommit=True) as connection:  # each insertion takes up to some milliseconds
        connection.execute(
            b"CREATE FUNCTION dawdle() RETURNS TRIGGER LANGUAGE plpgsql AS "
            b"$$ BEGIN PERFORM pg_sleep(random() * 0.004); RETURN NEW; END $$;"
            b"CREATE TRIGGER slow AFTER INSERT ON memory_gateway.entries FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
    feed = Feed(database_url)
    await feed.open()
    seen: list[str] = []
    seqs: list[int] = []

    async def follow() -> None:
        async for followed in feed.follow(0):
            assert followed.is_complete
            seen.extend(entry.record.id for entry in followed.entries)
            seqs.extend(entry.seq for entry in followed.entries)

    following = asyncio.create_task(follow())
    records = [numbered(number) for number in range(300)]

    async def write(number: int) -> None:
        for one in records[number::3]:
            await logs[number].append([one])

    await asyncio.gather(*(write(number) for number in range(3)))
    limit = time.monotonic() + 20
    while len(seen) < len(records) and time.monotonic() < limit:
        await asyncio.wait([following], timeout=0.05)
    following.cancel()
    await asyncio.wait([following])
    assert sorted(seen) == sorted(one.id for one in records)
    assert seqs == sorted(set(seqs))
    await feed.close()
    for log in logs:
        await log.close()


async def test_a_follower_hears_of_an_entry_at_once_and_reads_only_what_it_needs(database_url: str) -> None:
    feed = Feed(database_url)
    await feed.open()
    async with running_log(database_url) as log:
        await append(log, numbered(0), numbered(1))
        following = feed.follow(0, lambda scopes: [scope for scope in scopes if scope == SCOPES[1]])
        first = await anext(following)
        assert [entry.record for entry in first.entries] == [numbered(1)]
        for _ in range(2):
            idle = await anext(following)
            assert (idle.seq, idle.entries) == (first.seq, ())
        next_one: asyncio.Future[Followed] = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        began = time.monotonic()
        seq = await append(log, numbered(2))
        second = await next_one
        while second.seq == first.seq:
            second = await anext(following)
        assert (second.seq, second.entries) == (seq, [])
        assert time.monotonic() - began < 1.0
        await following.aclose()  # type: ignore[attr-defined]  # an async generator
    await feed.close()


async def test_appends_wait_for_the_database_once_in_an_outage(server: PostgresServer, database_url: str) -> None:
    async with running_link(server.port) as link:
        log = SharedLog(database_url.replace(f":{server.port}/", f":{link.port}/"), bucket_of)
        journal = PostgresJournal(log, bucket_of, lambda: OF_ALL, max_bytes=2**30, on_append=lambda: None)
        await journal.open()
        link.cut()
        for number, longest in enumerate((9.0, 1.5, 1.5)):
            began = time.monotonic()
            with pytest.raises(StorageError):
                await journal.append([numbered(number)])
            assert time.monotonic() - began < longest
        link.join()
        limit = time.monotonic() + 15
        while not journal.last_seq:
            with contextlib.suppress(StorageError):
                await journal.append([numbered(3)])
            assert time.monotonic() < limit
            await pause(0.05)
        await journal.close()


async def test_one_commit_takes_claims_of_chats_and_of_clients(database_url: str) -> None:
    """A client's wish to store something is never refused: the length of its claim is the integer 0."""
    async with running_log(database_url) as log:
        appends = []
        for number, seconds in enumerate((120.0, 0)):
            record = numbered(number)
            claim = Claim(bytes([number]) * 16, f"turn-{number}", record.created_at, seconds, record.scope)
            appends.append(collect_entries([record], "", {}, {record.id: claim}))
        added, _ = await log.append(appends)
        assert set(added) == {numbered(0).id, numbered(1).id}


async def test_a_follower_knows_when_it_has_all_entries(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_MAX_READ", 2)
    async with running_log(database_url) as log:
        feed = Feed(database_url)
        await feed.open()
        for number in range(3):
            await append(log, numbered(number))
        began = time.monotonic()
        following = feed.follow(0)
        assert (await anext(following)).newest_at is None, "there is another entry"
        newest_at = (await anext(following)).newest_at
        assert newest_at is not None
        assert newest_at >= began
        await following.aclose()  # type: ignore[attr-defined]  # an async generator
        await feed.close()


async def test_a_follower_that_fell_behind_is_told_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.storage.postgres.shared_log._MIN_RETAINED_TEXTS", 1)
    monkeypatch.setattr("gateway.storage.postgres.shared_log._TEXT_RETENTION", -1.0)
    feed = Feed(database_url)
    await feed.open()
    forgetful = SharedLog(database_url, bucket_of, id_retention=-1.0)
    await forgetful.open()
    async with running_log(database_url) as log, running_leases(database_url) as leases:
        held = await leases.acquire(range(BUCKETS))
        first = await append(log, numbered(0))
        last = await append(log, numbered(1), numbered(2))
        await log.mark_stored(held, range(first, last + 1))
        await log.purge([SCOPES[0]])
        followed = await anext(feed.follow(0))
        assert [entry.record for entry in followed.entries] == [numbered(1), numbered(2)]
        assert (followed.dropped, followed.is_complete) == ({SCOPES[0]}, True)
        await log.sweep()
        followed = await anext(feed.follow(first))
        assert [entry.record for entry in followed.entries] == [numbered(2)]
        assert (followed.dropped, followed.is_complete) == ({SCOPES[1]}, True)
        await forgetful.sweep()
        assert not (await anext(feed.follow(0))).is_complete
    await forgetful.close()
    await feed.close()


async def test_a_deletion_reaches_a_follower_also_after_it_was_purged(database_url: str) -> None:
    feed = Feed(database_url)
    await feed.open()
    async with running_log(database_url) as log, running_leases(database_url) as leases:
        held = await leases.acquire(range(BUCKETS))
        before = await append(log, numbered(0))
        last = await append(log, replace(numbered(0), text="", status="deleted", version=2))
        await log.mark_stored(held, [before, last])
        await log.purge([SCOPES[0]])
        followed = await anext(feed.follow(before))
        assert (followed.seq, followed.dropped) == (last, {SCOPES[0]})
    await feed.close()


async def test_ids_and_claims_are_swept_when_their_time_is_over(database_url: str) -> None:
    log = SharedLog(database_url, bucket_of, id_retention=-1.0)
    await log.open()
    async with running_leases(database_url) as leases:
        held = await leases.acquire(range(BUCKETS))
        one = numbered(0)
        seq = await append(log, one)
        await log.mark_stored(held, [seq])
        await log.purge([one.scope])
        assert await append(log, one) == seq, "its id is known"
        await log.sweep()
        assert await append(log, one) > seq
    await log.close()


async def test_a_lost_lease_marks_nothing(database_url: str) -> None:
    async with running_log(database_url) as log, running_leases(database_url) as first:
        held = await first.acquire(range(BUCKETS))
        assert held == OF_ALL
        seqs = [await append(log, numbered(number)) for number in range(4)]
        await first.release([2])
        async with running_leases(database_url) as second:
            assert await second.acquire(range(BUCKETS)) == {2: 2}
            for change in (
                log.waiting(held, 10),
                log.mark_stored(held, seqs),
                log.mark_failed(held, seqs),
                log.discard(held, seqs),
                log.revive(held),
            ):
                with pytest.raises(LeaseLost):
                    await change
            with pytest.raises(LeaseLost):
                await log.mark_stored({0: 1}, seqs[:2])  # the other one's bucket is not among them
            mine = first.held()
            assert [entry.seq for entry in await log.waiting(mine, 10)] == [seqs[0], seqs[1], seqs[3]]
            assert [entry.seq for entry in await log.waiting(second.held(), 10)] == [seqs[2]]
            assert [entry.is_replay for entry in await log.waiting(second.held(), 10)] == [True]
            await log.mark_stored(mine, [seqs[0], seqs[1], seqs[3]])
            assert await log.waiting_seqs() == [seqs[2]]


async def test_backlogs_are_counted_without_being_read(database_url: str) -> None:
    async with running_leases(database_url) as mine, running_leases(database_url) as other:
        await mine.acquire(range(BUCKETS))
        journal = PostgresJournal(SharedLog(database_url, bucket_of), bucket_of, mine.held, max_bytes=10**9)
        await journal.open()
        assert await journal.backlogs() == {}
        seqs = [await journal.append([numbered(number)]) for number in range(BUCKETS + 1)]
        backlogs = await journal.backlogs()
        assert backlogs[0] == BucketBacklog(2, seqs[0], is_inherited=False)
        assert backlogs[1] == BucketBacklog(1, seqs[1], is_inherited=False)
        await mine.release([0])
        await other.acquire([0])
        assert 0 not in await journal.backlogs()
        assert [entry.seq for entry in await journal.waiting(10, [0, 1])] == [seqs[1]]
        heir = PostgresJournal(SharedLog(database_url, bucket_of), bucket_of, other.held, max_bytes=10**9)
        await heir.open()
        assert await heir.backlogs() == {0: BucketBacklog(2, seqs[0], is_inherited=True)}
        await heir.mark_failed(await heir.waiting(1, [0]))
        assert await heir.backlogs() == {0: BucketBacklog(1, seqs[-1], is_inherited=True)}, "the other one is due later"
        await heir.close()
        await journal.close()


async def test_a_new_owner_waits_for_a_mark_that_is_under_way(database_url: str) -> None:
    async with running_log(database_url) as log, running_leases(database_url, 0.5) as first:
        held = await first.acquire([0])
        seq = await append(log, numbered(0))
        async with running_leases(database_url, 5) as second:
            with psycopg.connect(database_url) as marking:  # a mark whose transaction is slow to end
                marking.execute(
                    b"SELECT memory_gateway.mark_stored(%s::int[], %s::bigint[], %s::bigint[], '{}', '{}')",
                    ([0], [held[0]], [seq]),
                )
                await pause(0.6)
                acquiring = asyncio.create_task(second.acquire([0]))
                await asyncio.wait([acquiring], timeout=0.3)
                assert not acquiring.done()
                marking.commit()
            assert await acquiring == {0: 2}
        assert await log.waiting_seqs() == []


async def test_a_journal_forgets_what_it_lost_and_stores_what_it_kept(database_url: str) -> None:
    async with running_leases(database_url) as mine, running_leases(database_url) as other:
        await mine.acquire(range(BUCKETS))
        journal = PostgresJournal(
            SharedLog(database_url, bucket_of), bucket_of, mine.held, max_bytes=10**9, on_append=lambda: None
        )
        await journal.open()
        for number in range(8):
            await journal.append([numbered(number)])
        entries = await journal.waiting(100)
        journal.mark_searchable(entries)
        journal.mark_stored(entries[:4])
        await mine.release([1])
        assert await other.acquire([1]) == {1: 2}
        with pytest.raises(LeaseLost):
            await journal.mark_synced()
        assert await journal.unstored(100) != []
        assert await journal.waiting(100) == [], "recall still has the others"
        await journal.mark_synced()
        journal.mark_stored([entry for entry in entries[4:] if bucket_of(entry.record.scope) != 1])
        await journal.mark_synced()
        with pytest.raises(LeaseLost):
            await journal.mark_failed([entries[1]])
        left = await journal.unstored(100)
        assert [entry.record for entry in left] == [numbered(1), numbered(5)]
        async with running_log(database_url) as log:
            assert [entry.record for entry in await log.waiting(other.held(), 10)] == [numbered(1), numbered(5)]
        await journal.close()


async def test_a_tail_has_what_no_table_has_and_the_tables_of_the_same_moment(database_url: str) -> None:
    async with running_log(database_url) as log, running_leases(database_url) as leases:
        held = await leases.acquire(range(BUCKETS))
        one = numbered(0)
        first = await append(log, one)
        second = await append(log, replace(one, text="", status="deleted", version=2), numbered(1))
        tail = await log.tail(SCOPES[0])
        assert tail.seq == second
        assert [(entry.seq, entry.record.status) for entry in tail.entries] == [
            (first, "activated"),
            (second - 1, "deleted"),
        ]
        assert tail.tables is None
        await log.mark_stored(held, [first], {one.id: second - 1})
        assert [entry.seq for entry in (await log.tail(SCOPES[0])).entries] == [second - 1]
        assert await log.retained() == [], "the text of a deleted message is gone"
        assert (await log.tail("f" * 64)).entries == []


async def test_a_crash_of_the_server_loses_and_doubles_nothing(own_server: PostgresServer) -> None:
    """Writers go on while the server is killed and started again; what was not acknowledged is sent again."""
    url = own_server.create_database()
    logs = [await PostgresLogs(url).open() for _ in range(3)]
    acknowledged: list[str] = []
    is_over = False

    async def write(number: int, lane: int) -> None:
        count = 0
        while not is_over:
            count += 1
            one = record(f"{number}/{lane}/{count}", count, scope=SCOPES[lane % BUCKETS])
            while True:
                try:
                    await logs[number].append([one])
                    break
                except StorageError:
                    await pause(0.05)
            acknowledged.append(one.id)

    writing = [asyncio.create_task(write(number, lane)) for number in range(3) for lane in range(4)]
    for _ in range(3):
        goal = len(acknowledged) + random.randrange(50, 200)
        while len(acknowledged) < goal:
            await asyncio.wait(writing, timeout=0.01)
        await asyncio.to_thread(own_server.crash)
        await asyncio.to_thread(own_server.start)
    goal = len(acknowledged) + 50
    while len(acknowledged) < goal:
        await asyncio.wait(writing, timeout=0.01)
    is_over = True
    await asyncio.gather(*writing)
    async with running_log(url) as log:
        ids = [entry.record.id for entry in await log.unstored(10**9)]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(acknowledged)
    for journal in logs:
        await journal.close()


async def test_a_frozen_server_refuses_appends_within_their_limit(own_server: PostgresServer) -> None:
    log = await PostgresLogs(own_server.create_database()).open()
    await log.append([numbered(0)])
    own_server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StorageError) as caught:
            await log.append([numbered(1)])
        assert caught.value.is_outage
        assert time.monotonic() - began < 15
    finally:
        own_server.thaw()
    limit = time.monotonic() + 30
    while True:
        try:
            await log.append([numbered(1)])
            break
        except StorageError:
            assert time.monotonic() < limit
    assert [entry.record for entry in await log.waiting(10)] == [numbered(0), numbered(1)]
    await log.close()
