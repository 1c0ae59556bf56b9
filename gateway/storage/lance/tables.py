"""Lifecycle of the LanceDB tables of all buckets: open, create, enter in the catalog, drop, sweep.

Readers take the tables of a bucket with `reading`; a table that a rebuild has replaced is dropped only after its last
read has ended.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import TableEntry, bucket_of
from gateway.storage.lance.conditions import guarded
from gateway.storage.lance.place import Bucket, Home
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import RowFormat

__all__ = ["Tables", "scope_groups"]

_log = logging.getLogger("gateway.store")
_ORPHAN_AGE = 3600.0  # seconds that a table without an entry stays: it may be entered when it is complete


class Tables:
    """LanceDB's tables at a place, and their catalog. Errors are LanceDB's own, OSError, ValueError or StorageError."""

    def __init__(self, home: Home) -> None:
        self.catalog = home.catalog
        self._place = home.place
        self._database: Any = None
        self._orphans: dict[str, float] = {}  # tables without an entry, with the time when they were first seen

    @property
    def is_open(self) -> bool:
        return self._database is not None

    async def open(self, buckets: int, first: RowFormat) -> dict[int, Bucket]:
        """Connect, and open what the place opens at the start, by bucket. `first`: the row format of a folder without
        a catalog."""
        self._database = await self._place.connect()
        try:
            return await self._place.open(self._database, buckets, first)
        except BaseException:
            self._database = None
            raise

    def close(self, buckets: Sequence[Bucket]) -> None:
        for bucket in buckets:
            for table in bucket.handles.values():
                table.close()
        if self._database is not None:
            self._database.close()
            self._database = None

    async def open_handles(self, number: int, bucket: Bucket) -> None:
        """Open the tables of a bucket that are not open, and move those on that the catalog has newer versions of."""
        is_owner = self.catalog.owns(number)
        if all(_is_current(bucket, entry, is_owner=is_owner) for entry in bucket.entries):
            return
        async with bucket.opening:
            outdated = [entry for entry in bucket.entries if not _is_current(bucket, entry, is_owner=is_owner)]
            moves = (self._move_handle(bucket, entry, is_owner=is_owner) for entry in outdated)
            await asyncio.gather(*(guarded(move, self._place.read_timeout) for move in moves))

    async def _move_handle(self, bucket: Bucket, entry: TableEntry, *, is_owner: bool) -> None:
        handle = bucket.handles.get(entry.name)
        if handle is None:
            handle = await self._database.open_table(entry.name)
        elif is_owner or not await _pin(handle, entry.version):
            await handle.checkout_latest()
        version = int(await handle.version())
        if version < entry.version:
            raise StorageError("store", f"the table {entry.name} is older than the catalog says")
        bucket.handles[entry.name], bucket.versions[entry.name] = handle, version
        if is_owner:
            bucket.pinned.discard(entry.name)
        elif version == entry.version:
            bucket.pinned.add(entry.name)

    def adopt(self, number: int, bucket: Bucket) -> None:
        """Take the list of a bucket's tables from the catalog, after another process may have changed it."""
        bucket.entries = self.catalog.tables(number)
        kept = {entry.name for entry in bucket.entries} | set(bucket.leftovers)
        for name in set(bucket.handles) - kept:
            self.forget_handle(bucket, name)

    @staticmethod
    def forget_handle(bucket: Bucket, name: str) -> None:
        """Let a table be opened again; whoever reads it with the old handle keeps that one."""
        bucket.handles.pop(name, None)
        bucket.versions.pop(name, None)
        bucket.pinned.discard(name)

    async def create(self, entry: TableEntry) -> Any:
        """Create an empty table."""
        schema = (await asyncio.to_thread(to_arrow, [], entry.row_format.dimensions)).schema
        table = await self._database.create_table(entry.name, schema=schema)
        await table.set_unenforced_primary_key("id")
        return table

    async def enter(self, number: int, bucket: Bucket, entries: Sequence[TableEntry], epoch: int) -> None:
        """Set the tables of a bucket in the catalog; durable. `epoch`: that in which `entries` were begun to be made.
        Raises StorageError if it has ended."""
        self.require_epoch(number, epoch)
        await self.catalog.switch({number: tuple(entries)})
        bucket.entries = tuple(entries)
        for entry in entries:
            bucket.versions[entry.name] = max(entry.version, bucket.versions.get(entry.name, 0))

    def require_epoch(self, number: int, epoch: int) -> None:
        """Raise StorageError if an epoch has ended: another process may have changed the bucket since."""
        if not epoch or self.catalog.epoch(number) != epoch:
            raise StorageError(
                "store", "another process owns this part of the memory, or has changed it", is_outage=True
            )

    async def drop(self, bucket: Bucket, name: str) -> None:
        """Drop a table that is no longer part of the bucket."""
        await self._database.drop_table(name, ignore_missing=True)
        handle = bucket.handles.get(name)
        self.forget_handle(bucket, name)
        if handle is not None:
            handle.close()

    async def drop_leftovers(self, bucket: Bucket) -> None:
        """Drop the leftovers that are due and have no readers."""
        now = time.monotonic()
        for name in [name for name, due in bucket.leftovers.items() if due <= now and not bucket.readers[name]]:
            if bucket.leftovers.pop(name, None) is not None:
                await self.drop(bucket, name)

    async def sweep(self, now: float) -> int:
        """Drop the tables of memories that have had no entry in the catalog for an hour: leftovers of processes that
        ended, and tables that a paused writer has revived. `now` is of `time.monotonic`. Returns how many."""
        names = (await self._database.list_tables()).tables
        await self.catalog.refresh()  # after the list: what was entered meanwhile is no orphan
        orphans = {name for name in names if bucket_of(name) >= 0} - self.catalog.names
        self._orphans = {name: self._orphans.get(name, now) for name in orphans}
        dropped = [name for name, seen_at in self._orphans.items() if now - seen_at >= _ORPHAN_AGE]
        for name in dropped:
            await self._database.drop_table(name, ignore_missing=True)
            del self._orphans[name]
        if dropped:
            _log.info("tables_swept", extra={"count": len(dropped)})
        return len(dropped)


def _is_current(bucket: Bucket, entry: TableEntry, *, is_owner: bool) -> bool:
    if entry.name not in bucket.handles or (is_owner and entry.name in bucket.pinned):
        return False
    return bucket.versions.get(entry.name, 0) >= entry.version


async def _pin(handle: Any, version: int) -> bool:
    """Let a handle read one version, which takes a HEAD where the latest one takes a LIST. False if that version was
    removed meanwhile."""
    try:
        await handle.checkout(version)
    except (RuntimeError, ValueError):
        return False
    return True


def scope_groups(counts: Counter[str], most: int) -> Iterator[list[str]]:
    """Sorted scopes in groups of at most `most` rows; a larger scope is a group of its own."""
    group: list[str] = []
    size = 0
    for scope in sorted(counts):
        if group and size + counts[scope] > most:
            yield group
            group, size = [], 0
        group.append(scope)
        size += counts[scope]
    if group:
        yield group
