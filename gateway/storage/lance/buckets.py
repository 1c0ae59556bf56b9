"""All buckets of a data folder: reads and writes rows, and replaces the tables of a bucket.

Rows are split into buckets by scope. New rows go into a bucket's growing (active) table; a rebuild merges all its rows
into one settled (sealed) table, sorted by scope, that is never written again. A row may therefore exist in several
tables: its newest version counts.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from gateway.memory.record import Record
from gateway.storage.disk import probe_disk, sync_tree
from gateway.storage.errors import StorageError
from gateway.storage.folder import DataFolder
from gateway.storage.lance.catalog import TableEntry
from gateway.storage.lance.conditions import gathered, guarded, has_id, is_of, short
from gateway.storage.lance.schema import to_arrow
from gateway.storage.lance.tables import Bucket, Tables
from gateway.storage.rows import Row, RowFormat

__all__ = ["READ_TIMEOUT", "Buckets"]

READ_TIMEOUT = timedelta(seconds=30)
_ID_BATCH = 500
_MAX_REPEATS = 4  # of a read in a process that does not write
_T = TypeVar("_T")


class Buckets:
    """The buckets by number. `row_format`: the format of new rows. `is_reader`: another process writes.

    Every method that reads or writes raises StorageError; so do all for which the tables must be open, if they are not.
    """

    def __init__(self, folder: DataFolder, row_format: RowFormat, *, is_reader: bool = False) -> None:
        self._is_reader = is_reader
        self.path = folder.path / "lance"
        self.row_format = row_format
        self.tables = Tables(folder.path)
        self.writing = asyncio.Lock()  # held while rows are written, or tables replaced
        self._folder = folder
        self._by_number: dict[int, Bucket] = {}
        self._synced_at = time.time()

    async def open(self) -> None:
        """Import LanceDB and open the existing tables."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        if self._is_reader:
            self._by_number = await guarded(self.tables.open_reader(self._folder.buckets))
            return
        first = RowFormat(self._folder.embedder, self._folder.dimensions, 1)
        self._by_number = await guarded(self.tables.open(self._folder.buckets, first))

    def close(self) -> None:
        buckets, self._by_number = self._by_number, {}
        self.tables.close(list(buckets.values()))

    @property
    def by_number(self) -> dict[int, Bucket]:
        """All buckets; none if the tables are not open."""
        return self._by_number

    def __getitem__(self, number: int) -> Bucket:
        self.require_open()
        return self._by_number[number]

    def number_of(self, scope: str) -> int:
        """The number of a scope's bucket."""
        return int(scope[:8], 16) % self._folder.buckets

    def format_of(self, scope: str) -> RowFormat:
        """The format of a scope's rows."""
        entries = self._by_number[self.number_of(scope)].entries if self._by_number else ()
        return entries[0].row_format if entries else self.row_format

    def require_open(self) -> None:
        if not self.tables.is_open or not self._by_number:
            raise StorageError("store", "the store is not open")

    async def read(self, number: int, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        """Rows of a bucket as Arrow tables, all versions of each; `condition` must not contain user text."""
        return await self.query(number, lambda bucket: self.read_tables(bucket, condition, columns))

    async def query(self, number: int, job: Callable[[Bucket], Awaitable[_T]]) -> _T:
        """The result of a job with a bucket and its current tables.

        A reader repeats it if the tables were replaced meanwhile: the owner may have dropped them after a purge, and
        while the files of a table are deleted one by one it can look like one of its earlier versions, or empty.
        """
        if not self._is_reader:
            return await job(await self.ready(number))
        for is_last in (*[False] * _MAX_REPEATS, True):
            try:
                bucket = await self.ready(number)
                entries = bucket.entries
                result = await job(bucket)
                await self.ready(number)
            except StorageError:
                if is_last:
                    raise
            else:
                if bucket.entries == entries:
                    return result
        raise StorageError("store", "the tables were replaced again and again")

    async def ready(self, number: int) -> Bucket:
        """A bucket with its current tables."""
        bucket = self[number]
        if self._is_reader:
            await guarded(self.tables.refresh(self._by_number))
        return bucket

    @staticmethod
    async def read_tables(bucket: Bucket, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        with bucket.reading() as tables:
            queries = [table.query() if condition is None else table.query().where(condition) for _, table in tables]
            selected = queries if columns is None else [query.select(list(columns)) for query in queries]
            return await gathered(guarded(query.to_arrow(timeout=READ_TIMEOUT)) for query in selected)

    async def read_versions(self, records: Iterable[Record], names: Sequence[str]) -> AsyncIterator[tuple[Any, ...]]:
        """These columns of all versions of records, as tuples."""
        self.require_open()
        by_bucket: dict[int, list[str]] = defaultdict(list)
        for record in records:
            by_bucket[self.number_of(record.scope)].append(record.id)
        for number, ids in by_bucket.items():
            for begin in range(0, len(ids), _ID_BATCH):
                for table in await self.read(number, has_id(ids[begin : begin + _ID_BATCH]), names):
                    for values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                        yield values

    async def count(self, number: int, condition: str | None = None) -> int:
        """The number of rows of a bucket, where each version counts as one."""

        async def count(bucket: Bucket) -> int:
            with bucket.reading() as tables:
                return sum([await guarded(table.count_rows(condition)) for _, table in tables])

        return await self.query(number, count)

    async def write(self, rows: Sequence[Row], known_ids: Collection[str] = ()) -> None:
        """Write rows. `known_ids`: ids that may exist in a growing table. Raises StorageError, also for rows in a
        format that their bucket no longer uses."""
        self.require_open()
        by_bucket: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_bucket[self.number_of(row.record.scope)][row.record.id] = row
        async with self.writing:
            await self._require_folder()
            for number, members in by_bucket.items():
                await guarded(self._write_bucket(number, list(members.values()), known_ids))

    async def _write_bucket(self, number: int, rows: list[Row], known_ids: Collection[str]) -> None:
        bucket = self._by_number[number]
        if not bucket.entries:
            await self.add_tables(number, (), [self.row_format])
        elif bucket.entries[-1].row_format != bucket.entries[0].row_format or bucket.entries[-1].is_settled:
            await self.add_tables(number, bucket.entries, [bucket.entries[0].row_format])
        entry, table = bucket.tables[-1]
        if any(row.embedder not in ("", entry.row_format.embedder) for row in rows):
            raise StorageError("store", "the bucket was rebuilt meanwhile")
        candidates = [row for row in rows if row.record.id in known_ids]
        present = await _existing_ids(table, candidates) if candidates else set()
        # an upsert reads and rewrites; only rows in this very table need one
        new = [row for row in rows if row.record.id not in present]
        existing = [row for row in rows if row.record.id in present]
        if new:
            await table.add(await asyncio.to_thread(to_arrow, new, entry.row_format.dimensions))
        if existing:
            upsert = table.merge_insert("id").use_index(False).when_matched_update_all().when_not_matched_insert_all()
            await upsert.execute(await asyncio.to_thread(to_arrow, existing, entry.row_format.dimensions))

    async def add_tables(self, number: int, entries: Sequence[TableEntry], formats: Sequence[RowFormat]) -> None:
        """Set a bucket's tables to `entries`, followed by new growing tables of these formats; durable and atomic."""
        bucket = self._by_number[number]
        added: list[TableEntry] = []
        for row_format in formats:
            entry = TableEntry(self.tables.catalog.new_name(number, [*entries, *added]), row_format)
            bucket.handles[entry.name] = await guarded(self.tables.create(entry))
            added.append(entry)
        await self._sync()
        await guarded(self.tables.enter(number, bucket, (*entries, *added)))

    async def sync(self) -> None:
        """fsync all files written since the last call, which LanceDB never does."""
        started = time.time()
        async with self.writing:
            await self._require_folder()
            await self._sync()
        self._synced_at = started

    async def _sync(self) -> None:
        try:
            await asyncio.to_thread(sync_tree, self.path, self._synced_at - 2)
        except OSError as error:
            raise StorageError("store", short(error)) from error

    async def probe(self, scope: str) -> None:
        """Check that a scope can be written and read now."""
        self.require_open()
        await self._require_folder()
        try:
            await asyncio.to_thread(probe_disk, self.path / "probe")
        except OSError as error:
            raise StorageError("store", short(error), is_outage=True) from error
        await self.read(self.number_of(scope), is_of(scope), ["id"])

    async def _require_folder(self) -> None:
        """Raise StorageError if the folder was moved away: LanceDB would recreate it, and lose rows written there."""
        if not await asyncio.to_thread(self.tables.is_in_place):
            raise StorageError("store", "the folder of the tables is not the one that was opened", is_outage=True)


async def _existing_ids(table: Any, rows: Sequence[Row]) -> set[str]:
    """The ids of these rows that a table has already."""
    arrow = await table.query().where(has_id([row.record.id for row in rows])).select(["id"]).to_arrow()
    return set(arrow.column("id").to_pylist())
