"""Three replicas on one database and one bucket: what one appends all recall, and what is stored is stored once."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from gateway.memory.edits import tombstone
from gateway.memory.record import Record
from gateway.storage.errors import StorageError
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.rows import LoadedRows
from gateway.turn import Scope, ScopeKind
from tests.cluster.replicas.member import BUCKETS, Member, running_members
from tests.fakes.made import record
from tests.fakes.running import eventually

SCOPES = [
    Scope(f"{number:08x}".ljust(64, "0"), "default", f"cube-{number}", ScopeKind.USER, f"user-{number}")
    for number in range(2 * BUCKETS)
]


def memory(text: str, number: int, scope: Scope) -> Record:
    return replace(record(text, number), scope=scope.value)


async def stored_texts(member: Member, scope: Scope) -> list[str]:
    """The texts of a scope in the tables, one for each row."""
    loaded: LoadedRows = await member.storage.store.load(scope)
    return sorted(row.text for row in loaded.records())


async def test_a_memory_of_one_replica_is_recalled_by_all(database_url: str, storage: ObjectStorage) -> None:
    async with running_members(database_url, storage) as members:
        for member in members:
            assert await member.texts(SCOPES[0]) == []
        await members[0].append(memory("early", 1, SCOPES[0]), memory("other", 2, SCOPES[1]))
        for member in members:
            await eventually(lambda member=member: _has(member, SCOPES[0], ["early"]))  # type: ignore[misc]
        assert await members[1].replica.drained(20)
        for member in members:
            assert await member.texts(SCOPES[1]) == ["other"], "loaded from the tables"
            assert await stored_texts(member, SCOPES[1]) == ["other"]
        await eventually(lambda: sum(len(member.stored) for member in members) >= 2)
        assert sum(len(member.stored) for member in members) == 2, "each row was stored by one replica"


async def _has(member: Member, scope: Scope, texts: list[str]) -> bool:
    return await member.texts(scope) == texts


async def test_buckets_are_shared_and_taken_over(database_url: str, storage: ObjectStorage) -> None:
    async with running_members(database_url, storage) as members:
        await eventually(lambda: sum(len(member.owned) for member in members) == BUCKETS, timeout=15)
        await eventually(lambda: max(len(member.owned) for member in members) <= 2, timeout=15)
        await members[0].replica.stop()
        remaining = members[1:]
        await eventually(lambda: sum(len(member.owned) for member in remaining) == BUCKETS, timeout=15)
        await remaining[0].append(*(memory(f"text {n}", n, scope) for n, scope in enumerate(SCOPES)))
        assert await remaining[1].replica.drained(30)


async def test_what_an_earlier_owner_has_left_is_stored_at_once(database_url: str, storage: ObjectStorage) -> None:
    async with running_members(database_url, storage, count=2, flush_seconds=3600) as (first, second):
        await eventually(lambda: len(first.owned) == len(second.owned) == BUCKETS // 2, timeout=15)
        scope = next(scope for scope in SCOPES if first.storage.bucket_of(scope.value) in first.owned)
        await second.append(memory("left", 1, scope))
        await eventually(lambda: _has(first, scope, ["left"]))
        await first.replica.stop()
        await eventually(lambda: [row.record.text for row in second.stored] == ["left"], timeout=15)


async def test_what_was_stored_while_the_database_was_away_is_marked_later(
    database_url: str, storage: ObjectStorage
) -> None:
    async with running_members(database_url, storage, count=1) as (member,):
        mark_synced, failures = member.storage.journal.mark_synced, [1]

        async def fail_once() -> None:
            if failures:
                failures.pop()
                raise StorageError("journal", "the database does not answer", is_outage=True)
            await mark_synced()

        member.storage.journal.mark_synced = fail_once  # type: ignore[method-assign]
        await member.append(memory("one", 1, SCOPES[0]))
        await eventually(lambda: not failures, timeout=15)
        await eventually(lambda: _is_drained(member), timeout=15)


async def test_a_deletion_is_followed_by_all(database_url: str, storage: ObjectStorage) -> None:
    async with running_members(database_url, storage) as members:
        original = memory("secret", 1, SCOPES[0])
        await members[0].append(original)
        for member in members:
            await eventually(lambda member=member: _has(member, SCOPES[0], ["secret"]))  # type: ignore[misc]
        deletion = tombstone(original, 2.0)
        await members[1].sets.mark_deleted([original])
        await members[1].append(deletion)
        assert await members[1].texts(SCOPES[0]) == []
        for member in members:
            await eventually(lambda member=member: _has(member, SCOPES[0], []))  # type: ignore[misc]
            await eventually(lambda member=member: SCOPES[0].value in member.changed)  # type: ignore[misc]
        assert await members[2].replica.drained(30)
        for member in members:
            member.sets.drop([SCOPES[0].value])
            assert await member.texts(SCOPES[0]) == []


async def test_nothing_is_lost_or_doubled_when_an_owner_freezes(database_url: str, storage: ObjectStorage) -> None:
    """The owner writes to its table, and loses its lease before it can mark the entries."""
    async with running_members(database_url, storage, lease_seconds=6.0) as members:
        await eventually(lambda: sum(len(member.owned) for member in members) == BUCKETS, timeout=15)
        frozen = next(member for member in members if member.owned)
        bucket = min(frozen.owned)
        scope = next(scope for scope in SCOPES if frozen.storage.bucket_of(scope.value) == bucket)
        reached, resumed = asyncio.Event(), asyncio.Event()
        mark_synced = frozen.storage.journal.mark_synced

        async def freeze() -> None:
            reached.set()
            await resumed.wait()
            await mark_synced()

        frozen.storage.journal.mark_synced = freeze  # type: ignore[method-assign]
        frozen.storage.leases.renew = _lose_nothing  # type: ignore[method-assign]
        frozen.storage.leases.acquire = _get_nothing  # type: ignore[method-assign]
        await members[0].append(*(memory(f"text {number}", number, scope) for number in range(20)))
        await asyncio.wait_for(reached.wait(), 20)
        others = [member for member in members if member is not frozen]
        await eventually(lambda: any(bucket in member.owned for member in others), timeout=30)
        await eventually(lambda: _is_drained(others[0]), timeout=30)
        resumed.set()
        frozen.storage.journal.mark_synced = mark_synced  # type: ignore[method-assign]
        texts = sorted(f"text {number}" for number in range(20))
        for member in members:
            member.sets.drop([scope.value])
            assert await member.texts(scope) == texts
            assert await stored_texts(member, scope) == texts


async def _lose_nothing() -> Collection[int]:
    return ()


async def _get_nothing(buckets: Collection[int]) -> dict[int, int]:
    return {}


async def _is_drained(member: Member) -> bool:
    return await member.replica.drained(0.5)
