"""Leases: one owner at a time, an epoch for each, and an owner that stops by its own clock."""

import asyncio
import math
import time

import psycopg
import pytest

from gateway.storage.bucket_numbers import LEADER
from gateway.storage.errors import StorageError
from gateway.storage.postgres.leases import Leases
from tests.cluster.postgres import PostgresServer
from tests.fakes.upstream import pause


async def open_leases(url: str, seconds: float = 60.0) -> Leases:
    leases = Leases(url, seconds=seconds)
    await leases.open()
    return leases


async def acquire_when_free(leases: Leases, bucket: int) -> float:
    """Take a lease as soon as it is free. Returns when."""
    limit = time.monotonic() + 30
    while not await leases.acquire([bucket]):
        assert time.monotonic() < limit
    return time.monotonic()


async def test_each_bucket_has_one_owner_and_a_new_epoch_for_each(database_url: str) -> None:
    gateways = [await open_leases(database_url) for _ in range(3)]
    buckets = [LEADER, *range(40)]
    taken = await asyncio.gather(*(gateway.acquire(buckets) for gateway in gateways))
    assert sorted(bucket for held in taken for bucket in held) == buckets
    assert {epoch for held in taken for epoch in held.values()} == {1}
    assert await gateways[0].acquire(buckets) == {}
    owners = await gateways[1].owners()
    assert sorted(owners) == buckets
    assert set(owners.values()) <= {gateway.owner for gateway in gateways}
    for gateway in gateways:
        assert await gateway.renew() == set()
    await gateways[0].close()
    again = await open_leases(database_url)
    assert await again.acquire(buckets) == dict.fromkeys(taken[0], 2)
    for gateway in (*gateways[1:], again):
        await gateway.close()


async def test_gateways_that_create_the_same_leases_at_once_share_them(database_url: str) -> None:
    gateways = [await open_leases(database_url) for _ in range(3)]
    for number in range(20):
        buckets = list(range(100 * number, 100 * (number + 1)))
        taken = await asyncio.gather(*(gateway.acquire(buckets) for gateway in gateways))
        assert sorted(bucket for held in taken for bucket in held) == buckets
    for gateway in gateways:
        await gateway.close()


async def test_an_owner_stops_before_another_one_can_begin(database_url: str) -> None:
    first, second = await open_leases(database_url, 1.0), await open_leases(database_url, 1.0)
    await first.acquire([7])
    await first.renew()
    assert first.held() == {7: 1}
    renewed = time.monotonic()
    taking = asyncio.create_task(acquire_when_free(second, 7))
    while first.held():
        await asyncio.wait([taking], timeout=0.01)
    stopped = time.monotonic()
    assert not taking.done(), "it stops by its own clock first"
    assert stopped - renewed < 0.9
    taken = await taking
    assert taken > stopped
    assert second.held() == {7: 2}
    assert list(await first.renew()) == [7]
    assert first.held() == {}
    await first.close()
    assert await second.renew() == set(), "what the other one released was not its own"
    await second.close()


async def test_the_end_of_a_lease_of_another_gateway_is_known(database_url: str) -> None:
    first, second = await open_leases(database_url, 30.0), await open_leases(database_url, 3.0)
    assert await first.next_end() == math.inf
    await first.acquire([1])
    assert await first.next_end() == math.inf, "its own one does not count"
    assert 25 < await second.next_end() <= 30
    await second.acquire([2])
    assert 0 < await first.next_end() <= 3
    await second.release([2])
    assert await first.next_end() == math.inf
    await first.close()
    await second.close()


async def test_leases_run_out_while_the_database_is_away(own_server: PostgresServer) -> None:
    leases = await open_leases(own_server.create_database(), 1.0)
    await leases.acquire(range(5))
    own_server.crash()
    with pytest.raises(StorageError):
        await leases.renew()
    limit = time.monotonic() + 10
    while leases.held():
        assert time.monotonic() < limit
        await pause(0.02)
    await leases.close()


async def test_leases_of_gateways_that_ended_long_ago_are_deleted(database_url: str) -> None:
    leases, other = await open_leases(database_url), await open_leases(database_url)
    await other.acquire([-101, -102, 7])
    await leases.acquire([-103])
    with psycopg.connect(database_url) as connection:
        connection.execute(b"UPDATE memory_gateway.leases SET until=until - 4000 WHERE bucket IN (-101, 7)")
    await leases.drop_ended(-100)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(b"SELECT bucket FROM memory_gateway.leases ORDER BY bucket").fetchall()
    assert rows == [(-103,), (-102,), (7,)], "those that run, and those of buckets, stay"
    await leases.close()
    await other.close()
