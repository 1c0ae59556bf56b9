"""The catalog of tables: changed by the owner of a bucket, read by all."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import psycopg
import pytest

from gateway.storage.errors import LeaseLost, StorageError
from gateway.storage.lance.catalog import TableEntry
from gateway.storage.postgres.catalog import PostgresCatalog
from gateway.storage.postgres.leases import Leases
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.rows import RowFormat
from tests.cluster.logs import bucket_of

SETTLED = TableEntry("memories_001_1_ab", RowFormat("e", 4, 2), is_settled=True, rows=7)
GROWING = TableEntry("memories_001_2_cd", RowFormat("e", 4, 2))


def decode(fields: Mapping[str, Any]) -> TableEntry:
    return TableEntry(fields["name"], RowFormat(**fields["row_format"]), fields["is_settled"], fields["rows"])


async def open_gateway(url: str) -> tuple[Leases, PostgresCatalog[TableEntry]]:
    leases = Leases(url)
    await leases.open()
    catalog = PostgresCatalog(url, leases.epoch, asdict, decode)
    await catalog.open()
    return leases, catalog


async def test_the_owner_replaces_lists_and_others_read_them(database_url: str) -> None:
    leases, catalog = await open_gateway(database_url)
    others, other = await open_gateway(database_url)
    await leases.acquire([1, 2])
    assert catalog.owns(1)
    assert not other.owns(1)
    await catalog.switch({1: (SETTLED, GROWING), 2: ()})
    assert catalog.tables(1) == (SETTLED, GROWING)
    assert other.tables(1) == ()
    await other.refresh(1)
    assert other.tables(1) == (SETTLED, GROWING)
    await catalog.switch({1: (GROWING,)})
    await other.refresh()
    assert (other.tables(1), other.tables(2), other.names) == ((GROWING,), (), {GROWING.name})
    log = SharedLog(database_url, bucket_of)
    await log.open()
    tail = await log.tail("00000001" + "0" * 56)
    other.note(1, None)
    assert other.tables(1) == ()
    other.note(1, tail.tables)
    assert other.tables(1) == (GROWING,)
    await log.close()
    for part in (catalog, other, leases, others):
        await part.close()


async def test_a_list_is_not_replaced_without_its_lease(database_url: str) -> None:
    leases, catalog = await open_gateway(database_url)
    others, other = await open_gateway(database_url)
    await leases.acquire([1, 2])
    with pytest.raises(LeaseLost):
        await other.switch({1: (GROWING,)})
    held = leases.held()
    await leases.release([1])
    await others.acquire([1])
    stale = PostgresCatalog(database_url, lambda bucket: held.get(bucket, 0), asdict, decode)  # it does not know yet
    await stale.open()
    with pytest.raises(LeaseLost):
        await stale.switch({1: (SETTLED,), 2: (SETTLED,)})
    await catalog.refresh()
    assert (catalog.names, stale.names) == (set(), set())
    await stale.close()
    for part in (catalog, other, leases, others):
        await part.close()


async def test_a_list_that_cannot_be_parsed_is_an_error_of_the_store(database_url: str) -> None:
    leases, catalog = await open_gateway(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"INSERT INTO memory_gateway.catalog VALUES (1, '[{}]')")
    with pytest.raises(StorageError, match="the catalog cannot be parsed"):
        await catalog.refresh()
    await catalog.close()
    await leases.close()
