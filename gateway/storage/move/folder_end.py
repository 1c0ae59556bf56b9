"""A data folder as an end of a move."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.storage.disk import sync_tree
from gateway.storage.errors import StorageError
from gateway.storage.folder import (
    ARRIVING_FILE,
    LOCK_FILE,
    META_FILE,
    MOVED_FILE,
    DataFolder,
    FolderRefused,
    fsync,
    is_in_use,
    lock_folder,
    read_move_mark,
    write_meta,
    write_whole,
)
from gateway.storage.lance.catalog import Entries
from gateway.storage.lance.description import as_in_folder, describe_tables
from gateway.storage.lance.file_catalog import FileCatalog
from gateway.storage.lance.homes import CATALOG_FILE
from gateway.storage.lance.repair import mark_whole
from gateway.storage.lance.store import MemoryStore
from gateway.storage.move.ends import MovedMemory
from gateway.storage.move_mark import MoveMark, MoveState, encode_mark
from gateway.storage.protocols import MemoryTable, RecordLog
from gateway.storage.rows import RowFormat
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.moved_rows import SqliteRows
from gateway.text.terms import TERMS_VERSION

__all__ = ["FolderEnd"]

_IDENTITIES = "identities.json"
_JOURNAL = "journal.sqlite"
_OF_THE_DISK: Final = "lost+found"  # in the root of a volume
_UNLIMITED: Final = 2**62


class FolderEnd:
    """A data folder that a memory is moved from or to; see `MoveEnd`. `recover` queues entries of the journal again
    that the tables have lost."""

    def __init__(self, path: Path, recover: Callable[[RecordLog, MemoryTable], Awaitable[Any]]) -> None:
        self._path = path
        self._recover = recover
        self._lock: int | None = None
        self.rows = SqliteRows(path)

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def mark_place(self) -> str:
        return str(self._path / MOVED_FILE)

    @property
    def tables(self) -> Path:
        """The folder of the tables."""
        return self._path / "lance"

    async def lock(self) -> None:
        if not await asyncio.to_thread((self._path / META_FILE).exists):
            raise FolderRefused(f"there is no memory in {self._path}")
        self._lock = await asyncio.to_thread(lock_folder, self._path)

    async def inspect(self) -> MoveMark | None:
        return await asyncio.to_thread(read_move_mark, self._path)

    async def load(self) -> MovedMemory:
        data = DataFolder(self._path)
        await asyncio.to_thread(data.open, 1, "", 0, is_locked=True)
        store = MemoryStore(data, RowFormat(data.embedder, data.dimensions, TERMS_VERSION))
        journal = Journal(self._path / _JOURNAL, _UNLIMITED, lambda: None)
        try:
            await journal.open()
            await store.open()
            await self._recover(journal, store)
            tables = {number: bucket.entries for number, bucket in store.buckets.by_number.items()}
            has_plain_ids = await store.has_plain_ids()
        except StorageError as error:
            place = self._path / _JOURNAL if error.part == "journal" else self.tables
            raise StorageError(error.part, f"{place}: {error}") from error
        finally:
            await store.close()
            await journal.close()
        await self.rows.open()
        return MovedMemory(
            buckets=data.buckets,
            embedder=data.embedder,
            dimensions=data.dimensions,
            has_plain_ids=has_plain_ids,
            tables=await describe_tables(self.tables, tables),
        )

    async def require_unchanged(self) -> None:
        """Does nothing: the lock of the folder is held."""

    async def require_empty(self) -> None:
        await asyncio.to_thread(self._require_empty)

    def _require_empty(self) -> None:
        if not self._path.exists():
            return
        if is_in_use(self._path):
            raise FolderRefused(f"another process uses the data folder {self._path}")
        if read_move_mark(self._path) is not None:
            return
        names = sorted(name for name in os.listdir(self._path) if name not in (LOCK_FILE, _OF_THE_DISK))
        if names:
            raise FolderRefused(f"the folder {self._path} is not empty (it has {names[0]}): name an empty or a new one")

    async def begin(self, mark: MoveMark, memory: MovedMemory) -> None:
        self._lock = await asyncio.to_thread(lock_folder, self._path)
        await self.mark(mark)
        await asyncio.to_thread(self._remove_remains)
        await self.rows.open()

    def _remove_remains(self) -> None:
        """Delete what an interrupted move has left, but its copies of files."""
        for path in (
            *self._path.glob("*.sqlite*"),
            *(self._path / name for name in (META_FILE, CATALOG_FILE, _IDENTITIES)),
        ):
            path.unlink(missing_ok=True)
        self.tables.mkdir(exist_ok=True)

    async def describe(self, memory: MovedMemory) -> MovedMemory:
        return replace(memory, tables=await describe_tables(self.tables, memory.tables))

    async def enter(self, memory: MovedMemory) -> None:
        await asyncio.to_thread(self._enter, memory)

    def _enter(self, memory: MovedMemory) -> None:
        for entries in memory.tables.values():
            for entry in entries:
                if entry.is_settled:
                    mark_whole(self.tables / f"{entry.name}.lance", entry.rows)
        sync_tree(self.tables, 0)
        catalog: dict[int, Entries] = {number: as_in_folder(entries) for number, entries in memory.tables.items()}
        FileCatalog(self._path / CATALOG_FILE).put_all(catalog)
        write_meta(self._path, memory.buckets, memory.embedder, memory.dimensions, has_plain_ids=memory.has_plain_ids)

    async def mark(self, mark: MoveMark) -> None:
        name = MOVED_FILE if mark.state is MoveState.MOVED else ARRIVING_FILE
        await asyncio.to_thread(write_whole, self._path / name, encode_mark(mark))
        await asyncio.to_thread(fsync, self._path)

    async def unmark(self) -> None:
        await asyncio.to_thread((self._path / ARRIVING_FILE).unlink, missing_ok=True)
        await asyncio.to_thread(fsync, self._path)

    async def identities(self) -> bytes | None:
        try:
            return await asyncio.to_thread((self._path / _IDENTITIES).read_bytes)
        except FileNotFoundError:
            return None

    async def put_identities(self, content: bytes) -> None:
        await asyncio.to_thread(write_whole, self._path / _IDENTITIES, content)

    async def close(self) -> None:
        await self.rows.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
