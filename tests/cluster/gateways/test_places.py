"""A database and a place on object storage that do not belong together: no gateway starts on them."""

import asyncio
from dataclasses import replace
from pathlib import Path

import obstore
import psycopg
import pytest

from gateway.app import Gateway
from gateway.errors import ConfigError
from gateway.storage.errors import StorageError
from gateway.storage.lance.object_mark import ObjectMark
from gateway.storage.place_mark import MARK_NAME, MemoryId
from gateway.storage.postgres.memory_id import create_memory_id, read_memory_id
from tests.cluster.gateways.cluster import Cluster, listed, said
from tests.cluster.gateways.test_backup import objects_at, settled
from tests.cluster.postgres import PostgresServer

FACT = "My boat is called Argo and lies in Kiel."
FLUSH = {"memory__store__flush_seconds": 0.2}


@pytest.fixture
def elsewhere(cluster: Cluster, tmp_path: Path) -> Cluster:
    """The same database with another place."""
    (tmp_path / "elsewhere").mkdir()
    return replace(
        cluster,
        folder=tmp_path / "elsewhere",
        storage=replace(cluster.storage, uri=f"{cluster.storage.uri}-elsewhere"),
    )


@pytest.fixture
def other(cluster: Cluster, server: PostgresServer, tmp_path: Path) -> Cluster:
    """The same place with another database."""
    (tmp_path / "other").mkdir()
    return replace(cluster, folder=tmp_path / "other", database_url=server.create_database())


async def refusal_of(cluster: Cluster) -> str:
    """Why a gateway does not start."""
    gateway = await asyncio.to_thread(Gateway, await asyncio.to_thread(cluster.configuration, "gateway"))
    try:
        with pytest.raises(ConfigError) as refused:
            await gateway.start()
    finally:
        await gateway.stop()
    return str(refused.value)


def forget_id(cluster: Cluster) -> None:
    with psycopg.connect(cluster.database_url) as connection:
        connection.execute("DELETE FROM memory_gateway.documents WHERE name='id'")


async def test_a_second_memory_does_not_start_at_the_place_of_another(cluster: Cluster, other: Cluster) -> None:
    async with cluster.running(2, **FLUSH) as gateways:
        assert "memory of another database" in await refusal_of(other)
        assert await said(gateways[0], FACT) == 200
        await settled(gateways)
        assert "memory of another database" in await refusal_of(other)
        assert FACT in [entry["text"] for entry in await listed(gateways[1], user="ada")]


async def test_a_gateway_with_another_prefix_than_the_others_does_not_start(
    cluster: Cluster, elsewhere: Cluster
) -> None:
    async with cluster.running(1, **FLUSH) as gateways:
        assert await said(gateways[0], FACT) == 200
        await settled(gateways)
        assert "All gateways of a cluster need the same `memory.uri`" in await refusal_of(elsewhere)
    async with cluster.running(2) as gateways:
        for gateway in gateways:
            assert FACT in [entry["text"] for entry in await listed(gateway, user="ada")]


async def test_a_memory_of_an_earlier_version_is_marked(cluster: Cluster, other: Cluster) -> None:
    async with cluster.running(1, **FLUSH) as gateways:
        assert await said(gateways[0], FACT) == 200
        await settled(gateways)
    await asyncio.to_thread(forget_id, cluster)
    await obstore.delete_async(objects_at(cluster.storage), MARK_NAME)
    async with cluster.running(2) as gateways:
        memory = await asyncio.to_thread(read_memory_id, cluster.database_url)
        assert memory.value is not None
        assert await ObjectMark(cluster.storage).read() == memory.value
        assert FACT in [entry["text"] for entry in await listed(gateways[0], user="ada")]
    assert "memory of another database" in await refusal_of(other)


async def test_what_is_written_first_stays(cluster: Cluster) -> None:
    assert await asyncio.to_thread(read_memory_id, cluster.database_url) == MemoryId()
    async with cluster.running(1):
        pass
    memory, mark = await asyncio.to_thread(read_memory_id, cluster.database_url), ObjectMark(cluster.storage)
    await create_memory_id(cluster.database_url, "another")
    await mark.create("another")
    assert await asyncio.to_thread(read_memory_id, cluster.database_url) == memory
    assert await mark.read() == memory.value
    await obstore.put_async(objects_at(cluster.storage), MARK_NAME, b"[]")
    with pytest.raises(StorageError, match=r"the object gateway\.json at s3:.* cannot be read"):
        await mark.read()
