"""Builds the storage of a replica from the configuration. Needs the extra `cluster`."""

import asyncio
from collections.abc import Iterable

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.storage.cluster import ClusterStorage
from gateway.storage.counters import Counters
from gateway.storage.errors import StorageError
from gateway.storage.lance import object_probe
from gateway.storage.lance.object_mark import ObjectMark
from gateway.storage.lance.object_place import object_storage
from gateway.storage.place_mark import explain_mismatch
from gateway.storage.postgres import probe as postgres_probe
from gateway.storage.postgres.counters import PostgresCounters
from gateway.storage.postgres.documents import SharedDocument
from gateway.storage.postgres.memory_id import read_memory_id
from gateway.storage.postgres.openings import PostgresOpenings
from gateway.storage.postgres.parts import build_ledger, build_owners
from gateway.storage.postgres.replays import PostgresReplays
from gateway.storage.protocols import SmallFile
from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sql.owners import SqlOwners

__all__ = [
    "build_cluster_counters",
    "build_cluster_document",
    "build_cluster_ledger",
    "build_cluster_openings",
    "build_cluster_owners",
    "build_cluster_replays",
    "build_cluster_storage",
    "check_cluster",
    "require_usable",
    "require_working",
]


def build_cluster_storage(config: Config) -> ClusterStorage:
    """The storage of the memory."""
    memory = config.memory
    return ClusterStorage(
        _url(config),
        object_storage(memory.uri, memory.storage),
        lease_seconds=memory.lease_seconds,
        max_backlog=memory.remember.max_backlog_mb * 2**20,
        compact_fragments=memory.limits.compact_fragments,
        check=lambda: require_usable(config),
        caches=config.data_folder,
    )


def build_cluster_ledger(config: Config) -> SqlLedger:
    return build_ledger(_url(config))


def build_cluster_owners(config: Config) -> SqlOwners:
    return build_owners(_url(config))


def build_cluster_counters(config: Config) -> Counters:
    return PostgresCounters(_url(config))


def build_cluster_document(config: Config, name: str) -> SmallFile:
    """A small document that all replicas share."""
    return SharedDocument(_url(config), name)


def build_cluster_openings(config: Config) -> PostgresOpenings:
    return PostgresOpenings(_url(config))


def build_cluster_replays(config: Config) -> PostgresReplays:
    return PostgresReplays(_url(config))


async def check_cluster(config: Config) -> tuple[list[str], list[str]]:
    """What keeps a gateway from using the database and the bucket, in words, and what else should be known of them.
    Takes seconds."""
    database, bucket = await asyncio.gather(
        asyncio.to_thread(postgres_probe.probe, _url(config)), _probe_bucket(config)
    )
    problems = [*_of_database(database.obstacles), *bucket]
    return problems or await _find_owner(config), _of_database(database.advice)


async def require_usable(config: Config) -> None:
    """Raise ConfigError if the database or the bucket cannot be used, or belong to another memory or to a move."""
    await require_working(config)
    if problems := await _find_owner(config):
        raise ConfigError("\n".join(problems))


async def require_working(config: Config) -> None:
    """Raise ConfigError if the database or the bucket does not work; whose they are is not looked at."""
    database, bucket = await asyncio.gather(
        asyncio.to_thread(postgres_probe.find_obstacles, _url(config)), _probe_bucket(config)
    )
    if problems := [*_of_database(database), *bucket]:
        raise ConfigError("\n".join(problems))


async def _probe_bucket(config: Config) -> list[str]:
    problems = await object_probe.probe(config.memory.uri, config.memory.storage)
    return [f"memory.uri: {text}" for text in problems]


def _of_database(texts: Iterable[str]) -> list[str]:
    return [f"memory.database: {text}" for text in texts]


async def _find_owner(config: Config) -> list[str]:
    """Why the database or the bucket, which work, belong to another memory, or to a move; empty if they do not."""
    if move := await asyncio.to_thread(postgres_probe.find_move, _url(config)):
        return move
    storage = object_storage(config.memory.uri, config.memory.storage)
    try:
        memory = await asyncio.to_thread(read_memory_id, _url(config))
        mark = await ObjectMark(storage).read()
    except StorageError as error:
        return [str(error)]
    mismatch = explain_mismatch(storage.uri, memory, mark)
    return [f"memory.uri: {mismatch}"] if mismatch else []


def _url(config: Config) -> str:
    database = config.memory.database
    assert database is not None  # noqa: S101 — the configuration was checked
    return database.get_secret_value()
