"""The storage of a replica: PostgreSQL for the log, the leases, the catalog and the registry, and LanceDB on object
storage for memories. Needs the extra `cluster`."""

import contextlib
from collections.abc import Callable
from typing import Final

from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import TableEntry, decode, encode
from gateway.storage.lance.homes import OBJECT_FRAGMENTS, object_home
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.lance.store import MemoryStore
from gateway.storage.postgres.catalog import PostgresCatalog
from gateway.storage.postgres.feed import Feed
from gateway.storage.postgres.journal import PostgresJournal
from gateway.storage.postgres.leases import Leases
from gateway.storage.postgres.meta import ClusterMeta
from gateway.storage.postgres.parts import build_registry
from gateway.storage.postgres.replica_log import ReplicaLog
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.rows import RowFormat

__all__ = ["ClusterStorage"]

_DIGITS: Final = 8  # of a scope's hash, of which its bucket is derived


class ClusterStorage:
    """The parts of the storage, which share one database. `on_append` is called when this replica has appended."""

    def __init__(
        self,
        database_url: str,
        storage: ObjectStorage,
        row_format: RowFormat,
        *,
        lease_seconds: float,
        max_backlog: int,
        compact_fragments: int = OBJECT_FRAGMENTS,
        on_append: Callable[[], None],
    ) -> None:
        self._row_format = row_format
        self.meta = ClusterMeta(database_url)
        self.leases = Leases(database_url, seconds=lease_seconds)
        self._shared_log = SharedLog(database_url, self.bucket_of)
        self._feed = Feed(database_url)
        self.log = ReplicaLog(self._shared_log, self._feed)
        self.journal = PostgresJournal(
            self._shared_log, self.bucket_of, self.leases.held, max_bytes=max_backlog, on_append=on_append
        )
        self.catalog: PostgresCatalog[TableEntry] = PostgresCatalog(database_url, self.leases.held, encode, decode)
        self.store = MemoryStore(object_home(storage, self.catalog, self.meta, compact_fragments), row_format)
        self.registry = build_registry(database_url, is_owner=False)

    def bucket_of(self, scope: str) -> int:
        """The bucket of a scope."""
        return int(scope[:_DIGITS], 16) % self.meta.buckets

    async def open(self, buckets: int) -> None:
        """Open the parts in PostgreSQL. `buckets`: of a new memory. Raises StorageError; call it again then."""
        await self.leases.open()  # creates the tables
        await self.meta.open(buckets, self._row_format.embedder, self._row_format.dimensions)
        await self.journal.open()
        await self._feed.open()
        await self.catalog.open()
        await self.registry.open()

    async def close(self) -> None:
        await self.store.close()
        for part in (self.registry, self.catalog, self._feed, self.journal, self.leases):
            with contextlib.suppress(StorageError):
                await part.close()
