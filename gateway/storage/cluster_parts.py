"""Builds the storage of a replica from the configuration. Needs the extra `cluster`."""

from collections.abc import Callable

from gateway.config import Config
from gateway.storage.cluster import ClusterStorage
from gateway.storage.counters import Counters
from gateway.storage.lance.object_place import object_storage
from gateway.storage.postgres.counters import PostgresCounters
from gateway.storage.postgres.documents import SharedDocument
from gateway.storage.postgres.parts import build_ledger, build_owners
from gateway.storage.protocols import SmallFile
from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sql.owners import SqlOwners

__all__ = [
    "build_cluster_counters",
    "build_cluster_document",
    "build_cluster_ledger",
    "build_cluster_owners",
    "build_cluster_storage",
]


def build_cluster_storage(config: Config, on_append: Callable[[], None]) -> ClusterStorage:
    """The storage of the memory. `on_append` is called when this replica has appended to the log."""
    memory = config.memory
    return ClusterStorage(
        _url(config),
        object_storage(memory.uri, memory.storage),
        lease_seconds=memory.lease_seconds,
        max_backlog=memory.remember.max_backlog_mb * 2**20,
        compact_fragments=memory.limits.compact_fragments,
        on_append=on_append,
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


def _url(config: Config) -> str:
    database = config.memory.database
    assert database is not None  # noqa: S101 — the configuration was checked
    return database.get_secret_value()
