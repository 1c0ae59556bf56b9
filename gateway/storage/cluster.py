"""The storage of a replica: PostgreSQL for the log, the leases, the catalog and all that is beside memories, and
LanceDB on object storage for memories. Needs the extra `cluster`."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gateway.storage.bucket_numbers import SETTINGS_LOCK, bucket_of
from gateway.storage.errors import StorageError
from gateway.storage.folder import FolderRefused
from gateway.storage.lance.catalog import TableEntry, decode, encode
from gateway.storage.lance.homes import OBJECT_FRAGMENTS, object_home
from gateway.storage.lance.object_mark import ObjectMark
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.lance.store import MemoryStore
from gateway.storage.place_mark import explain_mismatch
from gateway.storage.postgres.catalog import PostgresCatalog
from gateway.storage.postgres.change_lock import ChangeLock, ScopeLocks
from gateway.storage.postgres.feed import Feed
from gateway.storage.postgres.journal import PostgresJournal
from gateway.storage.postgres.leases import Leases
from gateway.storage.postgres.mail import Mail
from gateway.storage.postgres.memory_id import create_memory_id, read_memory_id
from gateway.storage.postgres.meta import ClusterMeta
from gateway.storage.postgres.parts import build_blocks, build_extraction_queue, build_registry
from gateway.storage.postgres.replica_log import ReplicaLog
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.rows import RowFormat
from gateway.storage.sql.extraction_queue import SqlExtractionQueue
from gateway.storage.values import Held

__all__ = ["ClusterStorage"]


class ClusterStorage:
    """The parts of the storage, which share one database. `check` raises ConfigError if the database or the bucket
    cannot be used; `caches`: a folder of this machine (None: there are none). Call `build_store` first, then
    `prepare`, then `open`."""

    def __init__(
        self,
        database_url: str,
        storage: ObjectStorage,
        *,
        lease_seconds: float,
        max_backlog: int,
        compact_fragments: int = OBJECT_FRAGMENTS,
        caches: Path | None = None,
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._url = database_url
        self._storage = storage
        self._compact_fragments = compact_fragments
        self._caches = caches
        self._check = check
        self.meta = ClusterMeta(database_url)
        self.leases = Leases(database_url, seconds=lease_seconds)
        self._shared_log = SharedLog(database_url, self.bucket_of)
        self._feed = Feed(database_url)
        self.log = ReplicaLog(self._shared_log, self._feed)
        self.journal = PostgresJournal(self._shared_log, self.bucket_of, self.held, max_bytes=max_backlog)
        self.catalog: PostgresCatalog[TableEntry] = PostgresCatalog(database_url, self.leases.epoch, encode, decode)
        self.registry = build_registry(database_url, is_owner=False, changing=ChangeLock(self.leases, SETTINGS_LOCK))
        self.scope_locks = ScopeLocks(self.leases)
        self.blocks = build_blocks(database_url)
        self.mail = Mail(database_url, self.leases.owner)

    @property
    def parts(self) -> Sequence[tuple[str, Callable[[], Awaitable[object]]]]:
        """The part that recall cannot do without, with what opens it."""
        return (("journal", self.open),)

    def bucket_of(self, scope: str) -> int:
        """The bucket of a scope."""
        return bucket_of(scope, self.meta.buckets)

    def held(self) -> Held:
        """The epochs of the buckets that this replica owns, without its other leases."""
        return {bucket: epoch for bucket, epoch in self.leases.held().items() if bucket >= 0}

    def owns(self, scope: str) -> bool:
        """True if this replica stores a scope now. False when in doubt."""
        return self.meta.buckets > 0 and self.leases.epoch(self.bucket_of(scope)) > 0

    def build_store(self, row_format: RowFormat) -> MemoryStore:
        self._row_format = row_format
        home = object_home(self._storage, self.catalog, self.meta, self._compact_fragments)
        self.store = MemoryStore(home, row_format)
        return self.store

    def build_extraction_queue(self) -> SqlExtractionQueue:
        return build_extraction_queue(self._url)

    async def prepare(self, buckets: int) -> None:
        """Check the database and the bucket, and create the folder of caches. `buckets`: of a new memory. Raises
        FolderRefused, and ConfigError if one of them cannot be used."""
        self._new_buckets = buckets
        if self._check is not None:
            await self._check()
        if self._caches is None:
            return
        try:
            await asyncio.to_thread(self._caches.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise FolderRefused(
                f"cannot create the folder of caches {self._caches}: {error.strerror}; --data or GATEWAY_DATA names "
                "another"
            ) from error

    async def open(self) -> None:
        """Open the parts in PostgreSQL. Raises StorageError; call it again then."""
        await self.leases.open()  # creates the tables
        await self._require_place()
        await self.meta.open(self._new_buckets, self._row_format.embedder, self._row_format.dimensions)
        await self.journal.open()
        await self._feed.open()
        await self.catalog.open()
        await self.registry.open()
        await self.mail.open()

    async def _require_place(self) -> None:
        """Mark the place on object storage with the id of the memory. Raises StorageError if another memory is
        there."""
        place = ObjectMark(self._storage)
        memory, mark = await asyncio.to_thread(read_memory_id, self._url), await place.read()
        if not (refusal := explain_mismatch(self._storage.uri, memory, mark)):
            if memory.value is None:
                await create_memory_id(self._url, mark or secrets.token_hex(16))
                memory = await asyncio.to_thread(read_memory_id, self._url)
            if mark is None and memory.value is not None:
                await place.create(memory.value)
                mark = await place.read()
            refusal = explain_mismatch(self._storage.uri, memory, mark)
        if refusal:
            raise StorageError("store", refusal)

    async def owners(self) -> set[str]:
        """The names of the replicas that run. Raises StorageError."""
        return set((await self.leases.owners()).values())

    async def open_blocks(self) -> None:
        """Raises StorageError."""
        await self.blocks.open()

    async def close(self) -> None:
        for part in (self.mail, self.blocks, self.registry, self.catalog, self._feed, self.journal, self.leases):
            with contextlib.suppress(StorageError):
                await part.close()

    async def release(self) -> None:
        """Does nothing: the leases are released when they are closed."""

    def remove_damaged(self) -> None:
        """Does nothing: nothing is moved aside."""
