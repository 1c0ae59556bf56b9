"""A cluster as an end of a move. Needs the extra `cluster`."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.storage.bucket_numbers import bucket_of
from gateway.storage.cluster_parts import require_working
from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import TableEntry, decode, encode
from gateway.storage.lance.description import describe_tables
from gateway.storage.lance.object_files import ObjectFiles
from gateway.storage.lance.object_place import object_storage
from gateway.storage.move.ends import MovedMemory
from gateway.storage.move_mark import MoveMark, decode_mark, encode_mark
from gateway.storage.postgres.catalog import PostgresCatalog
from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.postgres.documents import SharedDocument, run_in_thread
from gateway.storage.postgres.meta import ClusterMeta
from gateway.storage.postgres.move_lease import MoveLease, count_gateways
from gateway.storage.postgres.moved_rows import PostgresRows
from gateway.storage.postgres.names import SCHEMA
from gateway.storage.postgres.probe import MARK_PLACE, has_tables

__all__ = ["ClusterEnd"]

_PART: Final = "database"
_CALL_LIMIT: Final = 60.0  # seconds, of a batch of rows


class ClusterEnd:
    """A cluster that a memory is moved from or to; see `MoveEnd`. `files`: those of its tables."""

    def __init__(self, config: Config) -> None:
        memory = config.memory
        assert memory.database is not None  # noqa: S101 — the configuration was checked
        self._config = config
        self._memory = memory
        self._url = url = memory.database.get_secret_value()
        self._storage = object_storage(memory.uri, memory.storage)
        self._buckets = 1
        self._database = PostgresDatabase(url, "database", limit=_CALL_LIMIT)
        self._lease = MoveLease(url, self._database)
        self._mark = SharedDocument(url, "move")
        self._identities = SharedDocument(url, "identities")
        self.files = ObjectFiles(self._storage)
        self.rows = PostgresRows(self._database, self._bucket_of, lambda: self._buckets)

    @property
    def place(self) -> str:
        return self._memory.uri.rstrip("/")

    @property
    def mark_place(self) -> str:
        return MARK_PLACE

    async def lock(self) -> None:
        if not await self._has_tables():
            raise StorageError("database", f"there is no memory of {self.place} in the database")
        await self._database.open()
        if not await self._lease.acquire():
            raise StorageError(
                "database",
                f"the memory at {self.place} is being moved by another process: wait for it; if it was killed, for "
                f"{MoveLease.SECONDS:g} seconds",
            )
        await self._require_stopped()

    async def _require_stopped(self) -> None:
        count = await count_gateways(self._database)
        if count:
            raise StorageError(
                "database",
                f"gateways run on {self.place} ({count}): stop them; if they were killed, wait for "
                f"{self._memory.lease_seconds:g} seconds",
            )

    async def inspect(self) -> MoveMark | None:
        if not await self._has_tables():
            return None
        content = await self._read(self._mark)
        try:
            return None if content is None else decode_mark(content)
        except ValueError as error:
            raise StorageError("database", f"{error}: it is {MARK_PLACE}") from error

    async def load(self) -> MovedMemory:
        if not await self._database.read("SELECT 1 FROM documents WHERE name='memory'"):
            raise StorageError("database", f"there is no memory of {self.place} in the database")
        meta = ClusterMeta(self._url)
        await meta.refresh()
        catalog: PostgresCatalog[TableEntry] = PostgresCatalog(self._url, lambda _: 0, encode, decode)
        await catalog.open()
        await catalog.close()
        self._buckets = meta.buckets
        tables = {number: catalog.tables(number) for number in range(meta.buckets)}
        return MovedMemory(
            buckets=meta.buckets,
            embedder=meta.embedder,
            dimensions=meta.dimensions,
            has_plain_ids=meta.has_plain_ids,
            tables=await describe_tables(self._storage, tables),
        )

    async def require_unchanged(self) -> None:
        await self._lease.require_alone()

    async def require_empty(self) -> None:
        await require_working(self._config)
        if not await self._has_tables():
            await self._require_no_files()
            return
        await self._database.open()
        await self._require_stopped()
        if await self.inspect() is not None:
            return
        name = await self.rows.find_content()
        if name is not None:
            raise StorageError(
                "database",
                f"the database is not empty (its table {SCHEMA}.{name} has rows): name another one, or drop the schema "
                f"{SCHEMA} if nothing in it is needed",
            )
        await self._require_no_files()

    async def _require_no_files(self) -> None:
        if await self.files.list():
            raise StorageError("store", f"there are tables of memories at {self.place}: name another prefix")

    async def begin(self, mark: MoveMark, memory: MovedMemory) -> None:
        self._buckets = memory.buckets
        await self._database.open()
        is_repeated = await self.inspect() is not None
        await self.mark(mark)
        await self._require_stopped()  # from here on none is started
        if is_repeated:
            await self.rows.clear()
        elif await self.rows.find_content() is not None:
            await self.unmark()
            raise StorageError("database", "a gateway was started on the cluster meanwhile: it is not empty any more")

    async def describe(self, memory: MovedMemory) -> MovedMemory:
        return replace(memory, tables=await describe_tables(self._storage, memory.tables))

    async def enter(self, memory: MovedMemory) -> None:
        lists: Mapping[int, Any] = memory.tables
        rows = [(number, orjson.dumps(list(map(encode, entries)))) for number, entries in lists.items() if entries]
        await self._database.write("INSERT INTO catalog VALUES (?, ?)", rows)
        meta = ClusterMeta(self._url)
        await meta.open(memory.buckets, memory.embedder, memory.dimensions)
        if memory.has_plain_ids:
            await meta.note_plain_ids()

    async def mark(self, mark: MoveMark) -> None:
        await run_in_thread(lambda: self._mark.write(encode_mark(mark)), _PART)

    async def unmark(self) -> None:
        await run_in_thread(self._mark.delete, _PART)

    async def identities(self) -> bytes | None:
        return await self._read(self._identities)

    async def put_identities(self, content: bytes) -> None:
        await run_in_thread(lambda: self._identities.write(content), _PART)

    async def close(self) -> None:
        with contextlib.suppress(StorageError):
            await self._lease.close()
        await self._database.close()

    def _bucket_of(self, scope: str) -> int:
        return bucket_of(scope, self._buckets)

    async def _has_tables(self) -> bool:
        try:
            return await asyncio.to_thread(has_tables, self._url)
        except StorageError as error:
            raise ConfigError(f"memory.database: {error}") from error

    @staticmethod
    async def _read(document: SharedDocument) -> bytes | None:
        try:
            return await run_in_thread(document.read, _PART)
        except FileNotFoundError:
            return None
