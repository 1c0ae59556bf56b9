"""The lease of a move, and the gateways that it keeps away."""

import asyncio

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.move_mark import MoveMark, MoveState, encode_mark
from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.postgres.documents import SharedDocument
from gateway.storage.postgres.leases import Leases
from gateway.storage.postgres.move_lease import MoveLease, count_gateways
from gateway.storage.postgres.probe import find_move
from tests.cluster.postgres import PostgresServer


async def find(url: str) -> list[str]:
    return await asyncio.to_thread(find_move, url)


async def test_one_move_at_a_time_has_the_lease_and_gateways_see_it(
    database: PostgresDatabase, database_url: str
) -> None:
    first, second = MoveLease(database_url, database), MoveLease(database_url, database)
    assert await find(database_url) == []
    assert await first.acquire()
    assert not await second.acquire()
    assert "the memory is being moved" in (await find(database_url))[0]
    assert await count_gateways(database) == 0
    await first.require_alone()
    await first.close()
    assert await find(database_url) == []
    with pytest.raises(StorageError, match="run the move again"):
        await first.require_alone()
    assert await second.acquire()
    await second.close()


async def test_a_gateway_that_came_and_went_meanwhile_is_noticed(database: PostgresDatabase, database_url: str) -> None:
    lease, leases = MoveLease(database_url, database), Leases(database_url)
    assert await lease.acquire()
    await leases.open()
    await leases.acquire([3])
    assert await count_gateways(database) == 1
    await leases.close()
    assert await count_gateways(database) == 0
    with pytest.raises(StorageError, match="a gateway was started meanwhile"):
        await lease.require_alone()
    await lease.close()


async def test_a_mark_keeps_gateways_away_until_it_is_deleted(database: PostgresDatabase, database_url: str) -> None:
    mark = MoveMark(id="a", state=MoveState.ARRIVING, place="/data", at=0.0)
    document = SharedDocument(database_url, "move")
    await asyncio.to_thread(document.write, encode_mark(mark))
    assert "has not arrived completely from /data" in (await find(database_url))[0]
    await asyncio.to_thread(document.write, b"{")
    assert "cannot be read" in (await find(database_url))[0]
    await asyncio.to_thread(document.delete)
    assert await find(database_url) == []


async def test_a_database_without_tables_has_no_move(server: PostgresServer) -> None:
    assert await find(server.create_database()) == []
