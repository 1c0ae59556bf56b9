"""All buckets of a memory: reads and writes rows, and replaces the tables of a bucket.

Rows are split into buckets by scope. New rows go into a bucket's growing (active) table; a rebuild merges all its rows
into one settled (sealed) table, sorted by scope, that is never written again. A row may therefore exist in several
tables: its newest version counts.
"""

import asyncio
import math
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from gateway.memory.record import Record
from gateway.storage.bucket_numbers import bucket_of
from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import TableEntry, new_name
from gateway.storage.lance.conditions import gathered, guarded, has_id, hex_of, is_of
from gateway.storage.lance.place import Bucket, Home
from gateway.storage.lance.schema import to_arrow
from gateway.storage.lance.tables import Tables
from gateway.storage.rows import Row, RowFormat

__all__ = ["READ_TIMEOUT", "Buckets"]

READ_TIMEOUT = timedelta(seconds=30)
_ID_BATCH = 500
_PREFIX_LENGTH = 4  # digits of an id that are its scope's
_MAX_REPEATS = 4  # of a read in a process that does not write
_T = TypeVar("_T")


class Buckets:
    """The buckets by number. `row_format`: the format of new rows. Every method that reads or writes raises
    StorageError; so do all for which the tables must be open, if they are not."""

    def __init__(self, home: Home, row_format: RowFormat) -> None:
        self.row_format = row_format
        self.place = home.place
        self.tables = Tables(home)
        self.writing = asyncio.Lock()  # held while rows are written, or tables replaced
        self._catalog = home.catalog
        self._meta = home.meta
        self._by_number: dict[int, Bucket] = {}
        self._synced_at = time.time()

    async def open(self) -> None:
        """Import LanceDB and open the existing tables."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        first = RowFormat(self._meta.embedder, self._meta.dimensions, 1)
        self._by_number = await guarded(self.tables.open(self._meta.buckets, first))

    def close(self) -> None:
        buckets, self._by_number = self._by_number, {}
        self.tables.close(list(buckets.values()))

    @property
    def by_number(self) -> dict[int, Bucket]:
        """All buckets; none if the tables are not open."""
        return self._by_number

    @property
    def owned(self) -> list[int]:
        """The numbers of the buckets that this process may change."""
        return [number for number in self._by_number if self._catalog.owns(number)]

    def owns(self, number: int) -> bool:
        """True if this process may change a bucket."""
        return number in self._by_number and self._catalog.owns(number)

    def __getitem__(self, number: int) -> Bucket:
        self.require_open()
        return self._by_number[number]

    def number_of(self, scope: str) -> int:
        """The number of a scope's bucket."""
        return bucket_of(scope, self._meta.buckets)

    def number_of_id(self, id_or_prefix: str) -> int | None:
        """The number of the bucket that an id shows; None if it shows none. It may be wrong, for a plain id."""
        is_shown = len(id_or_prefix) >= _PREFIX_LENGTH and not 16**_PREFIX_LENGTH % self._meta.buckets
        return int(id_or_prefix[:_PREFIX_LENGTH], 16) % self._meta.buckets if is_shown else None

    def others(self, number: int | None) -> list[int]:
        """The buckets in which a memory may be that is not in the one which its id shows."""
        if number is not None and self.place.is_lazy and not self._meta.has_plain_ids:
            return []
        return [other for other in self._by_number if other != number]

    @property
    def has_plain_ids(self) -> bool:
        return self._meta.has_plain_ids

    async def _note_plain_ids(self, rows: Iterable[Row]) -> None:
        """Note ids that do not show the bucket of their scope, before the first of them is written."""
        if not self._meta.has_plain_ids and any(
            self.number_of_id(row.record.id) != self.number_of(row.record.scope) for row in rows
        ):
            await self._meta.note_plain_ids()

    def format_of(self, scope: str) -> RowFormat:
        """The format of a scope's rows."""
        entries = self._by_number[self.number_of(scope)].entries if self._by_number else ()
        return entries[0].row_format if entries else self.row_format

    def require_open(self) -> None:
        if not self.tables.is_open or not self._by_number:
            raise StorageError("store", "the store is not open")

    def require_owned(self, number: int) -> None:
        if not self._catalog.owns(number):
            raise StorageError("store", "another process owns this part of the memory", is_outage=True)

    async def ready(self, number: int) -> Bucket:
        """A bucket with all of its tables open."""
        bucket = self[number]
        if bucket.epoch != self._catalog.epoch(number) or not bucket.epoch:
            await self.refresh(number)
        await guarded(self.tables.open_handles(number, bucket))
        return bucket

    async def refresh(self, number: int) -> None:
        """Take the newest list of a bucket's tables from the catalog, which another process may have changed."""
        epoch = self._catalog.epoch(number)  # before: the list is at least as new
        await guarded(self._catalog.refresh(number))
        bucket = self[number]
        self.tables.adopt(number, bucket)
        bucket.epoch = epoch

    async def refresh_others(self) -> None:
        """The same for all buckets of other processes."""
        others = [number for number in self._by_number if not self._catalog.owns(number)]
        if not others:
            return
        await guarded(self._catalog.refresh())
        for number in others:
            if not self._catalog.owns(number):  # nor has taken it over meanwhile
                self.tables.adopt(number, self._by_number[number])

    async def read(self, number: int, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        """Rows of a bucket as Arrow tables, all versions of each; `condition` must not contain user text."""
        return await self.query(number, lambda bucket: self.read_tables(bucket, condition, columns))

    async def query(self, number: int, job: Callable[[Bucket], Awaitable[_T]]) -> _T:
        """The result of a job with a bucket and its current tables.

        A process that does not own the bucket repeats it if the tables were replaced meanwhile: the owner may have
        dropped them after a purge, and while the files of a table are deleted one by one it can look like one of its
        earlier versions, or empty.
        """
        if self._catalog.owns(number):
            return await job(await self.ready(number))
        for is_last in (*[False] * _MAX_REPEATS, True):
            bucket = await self.ready(number)
            names = [entry.name for entry in bucket.entries]
            handles = dict(bucket.handles)
            try:
                result = await job(bucket)
                await self.refresh(number)
            except StorageError as error:
                if is_last or error.is_outage:
                    raise
                # its owner has replaced or compacted tables since they were opened
                for name, handle in handles.items():
                    if bucket.handles.get(name) is handle:
                        self.tables.forget_handle(bucket, name)
            else:
                if [entry.name for entry in bucket.entries] == names:
                    return result
        raise StorageError("store", "the tables were replaced again and again")

    async def read_tables(
        self, bucket: Bucket, condition: str | None, columns: Sequence[str] | None = None
    ) -> list[Any]:
        """The same for a bucket with open tables."""
        with bucket.reading() as tables:
            queries = [table.query() if condition is None else table.query().where(condition) for _, table in tables]
            selected = queries if columns is None else [query.select(list(columns)) for query in queries]
            return await gathered(
                guarded(query.to_arrow(timeout=READ_TIMEOUT), self.place.read_timeout) for query in selected
            )

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

    async def known_rows(self, number: int) -> int:
        """The number of rows of a bucket by the catalog, where each version counts as one; -1 if it is not known."""
        if not self._catalog.owns(number):
            await self.refresh(number)
        return self[number].rows

    def narrowed(self, number: int, scopes: Iterable[str]) -> str | None:
        """A condition for the rows of those of these scopes that are in a bucket; None where reading them all is as
        cheap."""
        members = sorted(hex_of(scope) for scope in scopes if self.number_of(scope) == number)
        return f"scope IN ({','.join(map(repr, members))})" if self.place.is_lazy else None

    async def count(self, number: int, condition: str | None = None) -> int:
        """The number of rows of a bucket, where each version counts as one."""

        async def count(bucket: Bucket) -> int:
            with bucket.reading() as tables:
                return sum(
                    await gathered(guarded(table.count_rows(condition), self.place.read_timeout) for _, table in tables)
                )

        return await self.query(number, count)

    async def write(self, rows: Sequence[Row], known_ids: Collection[str] = ()) -> None:
        """Write rows. `known_ids`: ids that may exist in a growing table. Raises StorageError, also for rows in a
        format that their bucket no longer uses."""
        self.require_open()
        by_bucket: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_bucket[self.number_of(row.record.scope)][row.record.id] = row
        async with self.writing:
            await self.place.require()
            await self._note_plain_ids(rows)
            for number, members in by_bucket.items():
                await guarded(self._write_bucket(number, list(members.values()), known_ids), self.place.write_timeout)

    async def _write_bucket(self, number: int, rows: list[Row], known_ids: Collection[str]) -> None:
        self.require_owned(number)
        bucket = await self.ready(number)
        epoch = bucket.epoch
        if not bucket.entries:
            await self.add_tables(number, (), [self.row_format], epoch)
        elif bucket.entries[-1].row_format != bucket.entries[0].row_format or bucket.entries[-1].is_settled:
            await self.add_tables(number, bucket.entries, [bucket.entries[0].row_format], epoch)
        entry, table = bucket.tables[-1]
        if any(row.embedder not in ("", entry.row_format.embedder) for row in rows):
            raise StorageError("store", "the bucket was rebuilt meanwhile")
        candidates = [row for row in rows if row.record.id in known_ids]
        present = await _existing_ids(table, candidates) if candidates else set()
        # an upsert reads and rewrites; only rows in this very table need one
        new = [row for row in rows if row.record.id not in present]
        existing = [row for row in rows if row.record.id in present]
        bucket.is_changed = True
        if new:
            await table.add(await asyncio.to_thread(to_arrow, new, entry.row_format.dimensions))
        if existing:
            upsert = table.merge_insert("id").use_index(False).when_matched_update_all().when_not_matched_insert_all()
            await upsert.execute(await asyncio.to_thread(to_arrow, existing, entry.row_format.dimensions))
        await self.note_version(number, entry.name, epoch, rows)

    async def note_version(self, number: int, name: str, epoch: int, rows: Sequence[Row] = ()) -> None:
        """Note in the catalog that a table has a new version, with these rows more; not at a place where the tables
        themselves are asked. `epoch`: see `Tables.enter`."""
        if not self.place.is_lazy:
            return
        bucket = self._by_number[number]
        entries = []
        for entry in bucket.entries:
            if entry.name == name:
                table = bucket.handles[name]
                changes = (row.record.updated_at for row in rows if row.record.version > 1)
                entry = replace(  # noqa: PLW2901 — the entry as it is now
                    entry,
                    rows=await table.count_rows(),
                    version=int(await table.version()),
                    oldest=min((entry.oldest, *(row.record.created_at for row in rows))),
                    changed_at=min((entry.changed_at, *changes)),
                )
            entries.append(entry)
        await self.tables.enter(number, bucket, entries, epoch)

    async def add_tables(
        self, number: int, entries: Sequence[TableEntry], formats: Sequence[RowFormat], epoch: int
    ) -> None:
        """Set a bucket's tables to `entries`, followed by new growing tables of these formats; durable and atomic.
        `epoch`: see `Tables.enter`."""
        bucket = self._by_number[number]
        added: list[TableEntry] = []
        for row_format in formats:
            entry = TableEntry(new_name(number, [*bucket.entries, *entries, *added]), row_format)
            table = bucket.handles[entry.name] = await guarded(self.tables.create(entry), self.place.write_timeout)
            added.append(entry if not self.place.is_lazy else await _empty(entry, table))
        await self._sync()
        await guarded(self.tables.enter(number, bucket, (*entries, *added), epoch), self.place.write_timeout)

    async def sync(self) -> None:
        """Make everything durable that was written since the last call."""
        started = time.time()
        async with self.writing:
            await self.place.require()
            await self._sync()
        self._synced_at = started

    async def _sync(self) -> None:
        await self.place.sync(self._synced_at - 2)

    async def probe(self, scope: str) -> None:
        """Check that a scope can be written and read now."""
        self.require_open()
        await self.place.require()
        await self.place.probe()
        await self.read(self.number_of(scope), is_of(scope), ["id"])


async def _empty(entry: TableEntry, table: Any) -> TableEntry:
    """The entry of a new table, with what is known of it."""
    return replace(entry, rows=0, version=int(await table.version()), oldest=math.inf, changed_at=math.inf)


async def _existing_ids(table: Any, rows: Sequence[Row]) -> set[str]:
    """The ids of these rows that a table has already."""
    arrow = await table.query().where(has_id([row.record.id for row in rows])).select(["id"]).to_arrow()
    return set(arrow.column("id").to_pylist())
