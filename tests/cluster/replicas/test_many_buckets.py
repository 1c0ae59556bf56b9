"""Three replicas of a memory with many buckets: they share them soon and evenly, and idle ones cost nearly nothing."""

import asyncio
import time

import psycopg
import pytest

from gateway.storage.lance.object_place import ObjectStorage
from tests.cluster.replicas.member import Member, running_members
from tests.cluster.replicas.test_replicas import SCOPES, memory
from tests.fakes.running import eventually
from tests.fakes.s3_proxy import FaultyS3

LEASE_SECONDS = 10.0  # the default
IDLE_SECONDS = 6.0
MAX_TRANSACTIONS = 16.0  # of a replica in a second: it polls the log and its mail, counts, and renews its leases


def are_even(members: list[Member], buckets: int) -> bool:
    counts = [len(member.owned) for member in members]
    return sum(counts) == buckets and max(counts) - min(counts) <= 1


def transactions(url: str) -> int:
    """How many transactions the database has had."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            b"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname=current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def maintain(member: Member) -> int:
    return len([part async for part in member.storage.store.maintain()])


@pytest.mark.parametrize("buckets", [1_024, 4_096])
async def test_buckets_are_shared_evenly_and_cost_nothing_while_they_are_idle(
    database_url: str, storage: ObjectStorage, s3: FaultyS3, buckets: int
) -> None:
    async with running_members(
        database_url, storage, is_joint_start=True, lease_seconds=LEASE_SECONDS, buckets=buckets
    ) as members:
        await eventually(lambda: are_even(members, buckets), timeout=3 * LEASE_SECONDS)
        s3.forget()
        before, began = await asyncio.to_thread(transactions, database_url), time.monotonic()
        owned = [member.owned for member in members]
        deadline = began + IDLE_SECONDS
        await eventually(lambda: time.monotonic() > deadline, timeout=2 * IDLE_SECONDS)
        count = await asyncio.to_thread(transactions, database_url) - before
        assert count / (time.monotonic() - began) <= len(members) * MAX_TRANSACTIONS
        assert [await maintain(member) for member in members] == [0, 0, 0]
        assert s3.counts.total() == 0
        assert [member.owned for member in members] == owned, "nothing moves"
        await members[0].append(*(memory(f"text {n}", n, scope) for n, scope in enumerate(SCOPES)))
        assert await members[1].replica.drained(30)
