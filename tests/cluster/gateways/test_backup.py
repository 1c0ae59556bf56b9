"""A back-up of the database and of the bucket, restored into another database and another place; and pairs of them that
do not belong together."""

import asyncio
from dataclasses import replace
from pathlib import Path

import obstore
import psycopg
import pytest
from obstore.store import S3Store

from gateway.identity import scope_of
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.place_mark import MARK_NAME
from tests.cluster.gateways.cluster import Cluster, listed, recalls, said
from tests.cluster.postgres import PostgresServer
from tests.fakes.running import Running, eventually

BOAT, BIRTH, CAT = "My boat is called Argo and lies in Kiel.", "I was born in Bergen.", "My cat is called Miso."
BUCKETS = 64  # the default
LATER = "The fair in Lübeck begins on the fourth of May."


def objects_at(storage: ObjectStorage) -> S3Store:
    options = {"allow_http": True}
    return S3Store.from_url(storage.uri, config=dict(storage.credentials), client_options=options)


async def copy(source: ObjectStorage, target: ObjectStorage, under: str = "") -> int:
    """Copy all objects, or those under a path. Returns how many."""
    origin, copies = objects_at(source), objects_at(target)
    entries = await obstore.list(origin, under or None).collect_async()
    for entry in entries:
        content = await (await obstore.get_async(origin, entry["path"])).bytes_async()
        await obstore.put_async(copies, entry["path"], bytes(content))
    return len(entries)


async def copy_mark(source: ObjectStorage, target: ObjectStorage) -> None:
    """Copy the object that says which memory a place has."""
    mark = await (await obstore.get_async(objects_at(source), MARK_NAME)).bytes_async()
    await obstore.put_async(objects_at(target), MARK_NAME, bytes(mark))


def bucket_of(user: str) -> int:
    return int(scope_of("default", user).value[:8], 16) % BUCKETS


async def tables_in(storage: ObjectStorage) -> list[str]:
    listing = await obstore.list_with_delimiter_async(objects_at(storage))
    return sorted(str(path) for path in listing["common_prefixes"])


def waiting_buckets(cluster: Cluster) -> set[int]:
    """The buckets that entries wait for to be stored."""
    with psycopg.connect(cluster.database_url) as connection:
        rows = connection.execute("SELECT DISTINCT bucket FROM memory_gateway.entries WHERE state=0").fetchall()
    return {bucket for (bucket,) in rows}


@pytest.fixture
def restored(cluster: Cluster, server: PostgresServer, tmp_path: Path) -> Cluster:
    """The address of an empty database and an empty place, for what is restored."""
    (tmp_path / "restored").mkdir()
    place = replace(cluster.storage, uri=f"{cluster.storage.uri}-restored")
    return Cluster(tmp_path / "restored", server.create_database(), place, cluster.upstream_url)


async def remembers(gateway: Running, *texts: str, user: str = "ada") -> bool:
    """True if each of these texts is among a user's memories, once."""
    entries = [entry["text"] for entry in await listed(gateway, user=user)]
    return all(entries.count(text) == 1 for text in texts)


async def settled(gateways: list[Running]) -> None:
    """Wait until everything so far is stored in tables."""
    for gateway in gateways:
        assert await gateway.gateway.memory.barrier.drained(20)


async def test_what_was_acknowledged_before_a_back_up_is_there_after_it_is_restored(
    cluster: Cluster, restored: Cluster, server: PostgresServer
) -> None:
    async with cluster.running(2, memory__store__flush_seconds=3600) as gateways:
        assert await said(gateways[0], BOAT) == 200
        await settled(gateways)
        assert await said(gateways[1], BIRTH) == 200  # waits in the journal
        dump = await asyncio.to_thread(server.dump, cluster.database_url)
        assert await said(gateways[0], CAT) == 200
        await settled(gateways)  # both are stored, which the copy of the database does not know
        assert await copy(cluster.storage, restored.storage) > 0
    await asyncio.to_thread(server.restore, restored.database_url, dump)
    async with restored.running(2) as gateways:
        for gateway in gateways:
            await eventually(lambda gateway=gateway: remembers(gateway, BOAT, BIRTH), 20)  # type: ignore[misc]
        assert await said(gateways[1], LATER) == 200
        await settled(gateways)
        for gateway in gateways:
            await eventually(lambda gateway=gateway: remembers(gateway, BOAT, BIRTH, LATER), 20)  # type: ignore[misc]
            assert BOAT in await recalls(gateway, "What is my boat called?")


async def test_memories_of_a_missing_table_are_back_when_its_objects_are(
    cluster: Cluster, restored: Cluster, server: PostgresServer
) -> None:
    assert bucket_of("ada") != bucket_of("bob")
    async with cluster.running(1) as gateways:
        for user in ("ada", "bob"):
            assert await said(gateways[0], BOAT, user) == 200
        await settled(gateways)
    dump = await asyncio.to_thread(server.dump, cluster.database_url)
    await asyncio.to_thread(server.restore, restored.database_url, dump)
    tables = await tables_in(cluster.storage)
    missing = [table for table in tables if table.startswith(f"memories_{bucket_of('ada'):03d}_")]
    assert missing
    await copy_mark(cluster.storage, restored.storage)
    for table in set(tables) - set(missing):
        await copy(cluster.storage, restored.storage, table)
    async with restored.running(1, memory__store__flush_seconds=0.2) as (gateway,):
        assert await said(gateway, BIRTH) == 200, "chats go on"
        await eventually(lambda: waiting_buckets(restored) == {bucket_of("ada")}, 10)
        assert await said(gateway, CAT, "bob") == 200
        await eventually(lambda: waiting_buckets(restored) == {bucket_of("ada")}, 10)
        assert await list_status(gateway, "ada") == 503, "memories are missing, and it says so"
        assert await remembers(gateway, BOAT, CAT, user="bob")
        assert waiting_buckets(restored) == {bucket_of("ada")}, "the other bucket was stored"
        assert (await gateway.get("/v1/memory/export?user=bob")).status == 200
        reply = await gateway.post("/v1/memory/forget", {"user": "bob", "purge": True})
        assert (reply.status, await listed(gateway, user="bob")) == (200, []), "others need not wait for ada"
        for table in missing:
            await copy(cluster.storage, restored.storage, table)
        await eventually(lambda: is_readable(gateway), 30)
        await eventually(lambda: gateway.gateway.memory.barrier.drained(1), 30)
        assert await remembers(gateway, BOAT, BIRTH)


async def test_a_bucket_that_is_older_than_the_database_is_not_read_as_if_it_were_whole(
    cluster: Cluster, restored: Cluster, server: PostgresServer
) -> None:
    async with cluster.running(1) as gateways:
        assert await said(gateways[0], BOAT) == 200
        await settled(gateways)
        await copy(cluster.storage, restored.storage)
        assert await said(gateways[0], BIRTH) == 200
        await settled(gateways)
    dump = await asyncio.to_thread(server.dump, cluster.database_url)
    await asyncio.to_thread(server.restore, restored.database_url, dump)
    async with restored.running(1) as (gateway,):
        assert await list_status(gateway, "ada") == 503
        await copy(cluster.storage, restored.storage)
        await eventually(lambda: is_readable(gateway), 30)
        assert await remembers(gateway, BOAT, BIRTH)


async def list_status(gateway: Running, user: str) -> int:
    return (await gateway.get(f"/v1/memory/list?user={user}")).status


async def is_readable(gateway: Running) -> bool:
    return await list_status(gateway, "ada") == 200
