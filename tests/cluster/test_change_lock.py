"""Locks of changes: one gateway at a time for each scope, in an order in which no two gateways wait for each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from gateway.storage.bucket_numbers import SETTINGS_LOCK
from gateway.storage.errors import StorageError
from gateway.storage.postgres import change_lock
from gateway.storage.postgres.change_lock import ChangeLock, ScopeLocks
from gateway.storage.postgres.leases import Leases
from tests.fakes.running import eventually

SCOPES = [f"{number:08x}".ljust(64, "0") for number in range(9)]


@asynccontextmanager
async def opened(url: str, count: int) -> AsyncIterator[list[Leases]]:
    leases = [Leases(url) for _ in range(count)]
    for gateway in leases:
        await gateway.open()
    yield leases
    for gateway in leases:
        await gateway.close()


async def test_changes_of_one_value_follow_each_other(database_url: str) -> None:
    current, most = 0, 0

    async def change(lock: ChangeLock) -> None:
        nonlocal current, most
        for _ in range(5):
            async with lock:
                current += 1
                most = max(most, current)
                await asyncio.sleep(0)
                current -= 1

    async with opened(database_url, 3) as gateways:
        locks = [ChangeLock(leases, SETTINGS_LOCK) for leases in gateways]
        await asyncio.gather(*(change(lock) for lock in (*locks, *locks)))
        assert most == 1


async def test_scopes_are_locked_by_themselves(database_url: str) -> None:
    async with opened(database_url, 2) as (first, second):
        locks, others = ScopeLocks(first), ScopeLocks(second)
        async with locks.holding(SCOPES[:2]), others.holding([SCOPES[2]]), locks.holding([SCOPES[3]]):
            assert len(await first.owners()) == 4
            waiting = asyncio.create_task(_hold(others, SCOPES[3:6]))
            await eventually(lambda: _has_tried(database_url, 4))
            assert not waiting.done()
            assert set((await first.owners()).values()) == {first.owner, second.owner}
        await waiting
        assert await first.owners() == {}
        async with others.holding([]):
            assert await first.owners() == {}


async def _hold(locks: ScopeLocks, scopes: list[str]) -> None:
    async with locks.holding(scopes):
        pass


async def _has_tried(url: str, count: int) -> bool:
    """True if more scopes were locked than these."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(b"SELECT count(*) FROM memory_gateway.leases").fetchone()
        return row is not None and row[0] > count


async def test_gateways_that_need_several_scopes_never_wait_for_each_other(database_url: str) -> None:
    holders: dict[str, int] = dict.fromkeys(SCOPES, 0)

    async def change(locks: ScopeLocks, scopes: list[str]) -> None:
        for _ in range(4):
            async with locks.holding(scopes):
                for scope in scopes:
                    holders[scope] += 1
                assert {holders[scope] for scope in scopes} == {1}
                await asyncio.sleep(0)
                for scope in scopes:
                    holders[scope] -= 1

    async with opened(database_url, 3) as gateways:
        chosen = ([3, 1, 2], [2, 3], [1, 3, 0])
        changes = [
            change(locks, [SCOPES[number] for number in numbers])
            for locks in map(ScopeLocks, gateways)
            for numbers in chosen
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*changes)
        assert await gateways[0].owners() == {}


async def test_a_lock_that_is_not_given_back_is_waited_for_a_limited_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_lock, "_PATIENCE", 0.2)
    async with opened(database_url, 2) as (first, second):
        async with ScopeLocks(first).holding([SCOPES[5]]):
            with pytest.raises(StorageError, match="another gateway changes something for too long"):
                await _hold(ScopeLocks(second), [SCOPES[4], SCOPES[5]])
            assert set((await first.owners()).values()) == {first.owner}, "it has given the other one back"
        await _hold(ScopeLocks(second), SCOPES)
