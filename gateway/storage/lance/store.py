"""The store of all memories: LanceDB tables in the data folder.

Methods take a `Scope` or rows that carry one; those by id or bucket are for maintenance and callers that check owners.
User text never becomes part of a filter: a scope is 64 hex characters. Rows are split into buckets by scope. New rows
go into a bucket's growing (active) table; when that is large, or rows need a new format, the bucket is rebuilt: all its
rows, sorted by scope (LanceDB is slow on scattered rows), into one settled (sealed) table that is never written again.
A row may therefore exist in several tables: its newest version counts. Ids are the gateway's own, and one process
writes (it holds the folder's lock), so plain adds suffice; a row that an earlier process may have added goes through an
upsert.
"""

import asyncio
import contextlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway.memory.record import Record
from gateway.storage.disk import probe_disk, sync_tree
from gateway.storage.folder import DataFolder
from gateway.storage.lance.catalog import Made, TableEntry
from gateway.storage.lance.conditions import StoreFailed, guarded, has_id, hex_of, is_of, short
from gateway.storage.lance.near import WordIndexes, index_keys, near
from gateway.storage.lance.repair import mark_whole
from gateway.storage.lance.schema import to_arrow
from gateway.storage.lance.tables import Bucket, Tables, scope_groups
from gateway.storage.rows import Loaded, Row
from gateway.turn import Scope

__all__ = ["MemoryStore", "Prepare", "StoreFailed"]

_READ_TIMEOUT = timedelta(seconds=30)
_FRAGMENTS_BEFORE_COMPACTION = 64  # of a growing table, which is small
_REBUILD_ROWS = 8_192  # rows of a growing table that are worth a rebuild,
_REBUILD_SHARE = 4  # or one in four of the settled ones: so that a row is rewritten only a few times in all
_ROWS_BEFORE_INDEX = 5_000
_REBUILD_BATCH = 4_096  # rows; a larger scope is read as one batch
_ID_BATCH = 500
_COPY_GRACE = 600.0  # seconds that a replaced table stays, for a back-up that copies the folder meanwhile
_VERSION_RETENTION = timedelta(minutes=1)  # twice as long as any read may take

Prepare = Callable[[list[Row]], Awaitable[list[Row]]]
"""Converts rows to the current format: computes their vectors and terms."""


class MemoryStore:
    """Reads and writes rows. `open` takes seconds (LanceDB is heavy): call it behind the open port. `made`: the format
    of new rows; rows of earlier formats stay readable until their bucket is rebuilt."""

    def __init__(self, folder: DataFolder, made: Made) -> None:
        self._folder = folder
        self._made = made
        self._tables = Tables(folder.path)
        self._buckets: dict[int, Bucket] = {}
        self._writing = asyncio.Lock()
        self._rebuilding = asyncio.Lock()
        self._word_indexes = WordIndexes()
        self._synced_at = time.time()

    async def open(self) -> None:
        """Import LanceDB and open the existing tables. Raises StoreFailed."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        first = Made(self._folder.embedder, self._folder.dimensions, 1)
        self._buckets = await guarded(self._tables.open(self._folder.buckets, first))

    async def close(self) -> None:
        await self._word_indexes.stop()
        buckets, self._buckets = self._buckets, {}
        self._tables.close(list(buckets.values()))

    @property
    def mended(self) -> Sequence[str]:
        """Tables that were damaged at the start, and repaired as far as they can be read."""
        return self._tables.mended

    def made_of(self, scope: str) -> Made:
        """The format of a scope's rows; rows that are added to it must have the same format."""
        entries = self._buckets[self.bucket_of(scope)].entries if self._buckets else ()
        return entries[0].made if entries else self._made

    async def find(self, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by their ids, in all scopes; the caller checks their owner. Raises StoreFailed."""
        condition = has_id(memory_ids)
        if not condition:
            return []
        self._require_open()
        reads = await asyncio.gather(*(self._read(bucket, condition) for bucket in self._buckets.values()))
        return await asyncio.to_thread(lambda: [record for tables in reads for record in Loaded(tables).records()])

    async def load(self, scope: Scope) -> Loaded:
        """All rows of a scope in order of creation. Raises StoreFailed."""
        condition = is_of(scope.value)
        self._require_open()
        tables = await self._read(self._buckets[self.bucket_of(scope.value)], condition)
        return await asyncio.to_thread(Loaded, tables, scope)

    async def is_larger(self, scope: Scope, rows: int) -> bool:
        """True if a scope has more than `rows` rows, where each version counts as one. Raises StoreFailed."""
        self._require_open()
        number = self.bucket_of(scope.value)
        return await self.count(number) > rows and await self.count(number, is_of(scope.value)) > rows

    async def scopes_in(self, number: int) -> set[str]:
        """The scopes that have rows in a bucket. Raises StoreFailed."""
        tables = await self.rows(number, None, ["scope"])
        return {scope for table in tables for scope in table.column("scope").unique().to_pylist()}

    async def near(self, scope: Scope, words: Sequence[str], vector: Any) -> Loaded:
        """Candidate rows of a scope for a query, with a background sample for scoring. Raises StoreFailed."""
        self._require_open()
        condition, bucket = is_of(scope.value), self._buckets[self.bucket_of(scope.value)]
        dimensions = self.made_of(scope.value).dimensions
        reads = []
        with bucket.reading() as opened:
            for entry, table in opened:
                indexed_words = words if await self._word_indexes.is_there(entry.name, table) else ()
                comparable = vector if entry.made.dimensions == dimensions else None
                reads.append(guarded(near(table, condition, indexed_words, comparable)))
            results = await asyncio.gather(*reads)
        tables = [table for result in results for table in result]
        if len(bucket.tables) > 1:  # a newer version, or a tombstone, may be in another table, and far from the query
            ids = {id_ for table in tables for id_ in table.column("id").to_pylist()}
            id_condition = has_id(ids)
            tables += await self._read(bucket, f"{condition} AND {id_condition}") if id_condition else []
        return await asyncio.to_thread(Loaded, tables, scope)

    async def versions(self, records: Iterable[Record]) -> dict[str, tuple[int, str]]:
        """The newest stored version and the scope of each record, by id, without unknown ids. Raises StoreFailed."""
        newest: dict[str, tuple[int, str]] = {}
        names = ("id", "version", "scope")
        async for table in self._select_versions(records, names):
            for id_, version, scope in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                newest[id_] = max((version, scope), newest.get(id_, (0, "")))
        return newest

    async def deleted(self, records: Iterable[Record]) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The tombstones among these records: version and former links, by id. Raises StoreFailed."""
        newest: dict[str, tuple[int, str, tuple[str, ...]]] = {}
        names = ("id", "version", "status", "links")
        async for table in self._select_versions(records, names):
            for id_, version, status, links in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                newest[id_] = max((version, status, tuple(links or ())), newest.get(id_, (0, "", ())))
        return {id_: (version, links) for id_, (version, status, links) in newest.items() if status == "deleted"}

    async def rows(self, number: int, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        """Rows of a bucket as Arrow tables, all versions of each; `condition` must not contain user text. Raises
        StoreFailed."""
        self._require_open()
        return await self._read(self._buckets[number], condition, columns)

    async def _read(self, bucket: Bucket, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        with bucket.reading() as tables:
            queries = [table.query() if condition is None else table.query().where(condition) for _, table in tables]
            selected = queries if columns is None else [query.select(list(columns)) for query in queries]
            return list(await asyncio.gather(*(guarded(query.to_arrow(timeout=_READ_TIMEOUT)) for query in selected)))

    async def add(self, rows: Sequence[Row]) -> None:
        """Add rows whose ids are new, or whose versions are newer than the stored ones. Raises StoreFailed, also if a
        row has a format that its bucket no longer uses."""
        await self._write(rows, set())

    async def put(self, rows: Sequence[Row]) -> list[Row]:
        """Add rows that may exist already, or may be older than the stored versions. Returns those that are current.
        Raises StoreFailed as `add`."""
        newest = await self._newest_versions(rows)
        current = [row for row in rows if (row.record.version, row.seq) >= newest.get(row.record.id, (0, 0))]
        await self._write(current, set(newest))
        return current

    async def _newest_versions(self, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
        """The newest stored version of each row, with its journal number, by id."""
        names = ("id", "version", "seq")
        newest: dict[str, tuple[int, int]] = {}
        async for table in self._select_versions([row.record for row in rows], names):
            for id_, version, seq in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                newest[id_] = max((version, seq), newest.get(id_, (0, 0)))
        return newest

    async def _select_versions(self, records: Iterable[Record], names: Sequence[str]) -> AsyncIterator[Any]:
        """Columns of all versions of these records, as Arrow tables."""
        self._require_open()
        by_bucket: dict[int, list[str]] = defaultdict(list)
        for record in records:
            by_bucket[self.bucket_of(record.scope)].append(record.id)
        for number, ids in by_bucket.items():
            for begin in range(0, len(ids), _ID_BATCH):
                condition = has_id(ids[begin : begin + _ID_BATCH])
                for table in await self._read(self._buckets[number], condition, names):
                    yield table

    async def _write(self, rows: Sequence[Row], known_ids: Collection[str]) -> None:
        self._require_open()
        by_bucket: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_bucket[self.bucket_of(row.record.scope)][row.record.id] = row
        async with self._writing:
            await self._require_folder()
            for number, members in by_bucket.items():
                await guarded(self._write_bucket(number, list(members.values()), known_ids))

    async def sync(self) -> None:
        """fsync all files written since the last call, which LanceDB never does. Raises StoreFailed."""
        started = time.time()
        async with self._writing:
            await self._require_folder()
            await self._sync()
        self._synced_at = started

    async def probe(self, scope: str) -> None:
        """Check that a scope can be written and read now. Raises StoreFailed."""
        self._require_open()
        await self._require_folder()
        try:
            await asyncio.to_thread(probe_disk, self._folder.path / "lance" / "probe")
        except OSError as error:
            raise StoreFailed(short(error), is_outage=True) from error
        await self._read(self._buckets[self.bucket_of(scope)], is_of(scope), ["id"])

    async def maintain(self, number: int) -> bool:
        """Compact a bucket's growing table if it has many fragments, or rebuild the bucket if that table is large.
        False if there was nothing to do."""
        bucket = self._buckets[number]
        await guarded(self._tables.drop_leftovers(bucket))
        if not bucket.entries or self._rebuilding.locked():
            return False
        *settled, (_, growing) = bucket.tables
        stats = await guarded(growing.stats())
        rows = sum([await guarded(table.count_rows()) for _, table in settled])
        has_one_format = len({entry.made for entry in bucket.entries}) == 1  # else it awaits a rebuild with `prepare`
        if has_one_format and stats["num_rows"] > max(_REBUILD_ROWS, rows // _REBUILD_SHARE):
            await self.rebuild(number, bucket.entries[0].made, None)
        elif stats["fragment_stats"]["num_fragments"] >= _FRAGMENTS_BEFORE_COMPACTION:
            async with self._writing:
                await guarded(growing.optimize(cleanup_older_than=_VERSION_RETENTION))
        else:
            return False
        return True

    @property
    def buckets(self) -> Sequence[int]:
        """The numbers of all buckets."""
        return list(self._buckets)

    @property
    def made(self) -> Made:
        """The format of new rows."""
        return self._made

    def outdated(self) -> dict[int, Made]:
        """Buckets with rows of an outdated format, with that format."""
        return {
            number: entry.made
            for number, bucket in self._buckets.items()
            for entry in reversed(bucket.entries)
            if entry.made != self._made
        }

    async def count(self, number: int, condition: str | None = None) -> int:
        """The number of rows of a bucket, where each version counts as one. Raises StoreFailed."""
        return sum([await guarded(table.count_rows(condition)) for _, table in self._buckets[number].tables])

    def bucket_of(self, scope: str) -> int:
        """The number of a scope's bucket."""
        return int(scope[:8], 16) % self._folder.buckets

    async def purge(self, number: int) -> None:
        """Rebuild a bucket without its deleted rows, and remove the old files. Raises StoreFailed."""
        bucket = self._buckets[number]
        if not bucket.entries:
            return
        await self.rebuild(number, None, None)
        deadline = time.monotonic() + _READ_TIMEOUT.total_seconds()
        bucket.leftovers = dict.fromkeys(bucket.leftovers, 0.0)
        while bucket.leftovers:
            await guarded(self._tables.drop_leftovers(bucket))
            if bucket.leftovers and time.monotonic() > deadline:
                raise StoreFailed("old tables are still being read")
            await asyncio.sleep(0.01 if bucket.leftovers else 0)

    async def count_grown(self, number: int, condition: str) -> int:
        """Count rows of a bucket's growing tables (several after an aborted rebuild). Raises StoreFailed."""
        growing = [table for entry, table in self._buckets[number].tables if not entry.is_settled]
        return sum([await guarded(table.count_rows(condition)) for table in growing])

    async def rebuild(self, number: int, made: Made | None, prepare: Prepare | None) -> list[str]:
        """Merge all rows of a bucket into one settled table, sorted by scope, converted by `prepare` (None: unchanged).
        Deleted rows are dropped. The bucket is served and written to meanwhile; with `prepare`, rows written meanwhile
        wait for the next rebuild. Returns the scopes in it. Raises StoreFailed."""
        async with self._rebuilding:
            bucket = self._buckets[number]
            # rows written meanwhile keep the old format, so that all rows read until the end have one format
            before = bucket.entries[0].made
            if made is None and len({entry.made for entry in bucket.entries}) > 1:
                raise StoreFailed("its memories are being made anew for another embedder")
            made = made or before
            async with self._writing:
                entry, table = bucket.tables[-1]
                is_fresh = not entry.is_settled and entry.made == before and not await guarded(table.count_rows())
                if not is_fresh:  # else reuse the one that an earlier attempt began
                    await self._add_tables(number, bucket.entries, [before])
            *old, growing = bucket.tables
            settled = TableEntry(self._tables.catalog.new_name(number), made, is_settled=True)
            try:
                scopes, rows = await self._copy(old, bucket, settled, prepare)
            except BaseException:
                with contextlib.suppress(StoreFailed):
                    await guarded(self._tables.drop(bucket, settled.name))
                raise
            async with self._writing:
                settled = replace(settled, rows=rows)
                await self._add_tables(number, (settled, growing[0]), [made] if before != made else [])
            until = time.monotonic() + _COPY_GRACE
            bucket.leftovers = dict.fromkeys(bucket.leftovers, 0.0) | {entry.name: until for entry, _ in old}
            return scopes

    async def _copy(
        self, old: list[tuple[TableEntry, Any]], bucket: Bucket, settled: TableEntry, prepare: Prepare | None
    ) -> tuple[list[str], int]:
        """Copy rows into a new settled table. Returns their scopes, and the table's number of rows."""
        table = await guarded(self._tables.create(settled))
        source = Bucket(tuple(entry for entry, _ in old), {entry.name: handle for entry, handle in old})
        counts = Counter[str]()
        for _, handle in old:
            arrow = await guarded(handle.query().select(["scope"]).to_arrow())
            counts.update(arrow.column("scope").to_pylist())
        for scopes in scope_groups(counts, _REBUILD_BATCH):
            condition = f"scope IN ({','.join(repr(hex_of(scope)) for scope in scopes)})"
            tables = await self._read(source, condition)
            rows = await asyncio.to_thread(Loaded, tables)
            if not len(rows):
                continue
            data = rows.by_scope()
            for begin in range(0, len(data), _REBUILD_BATCH):
                batch = data.slice(begin, _REBUILD_BATCH)
                if prepare is not None:
                    prepared = await prepare(await asyncio.to_thread(Loaded([batch]).rows))
                    batch = await asyncio.to_thread(to_arrow, prepared, settled.made.dimensions)
                await guarded(table.add(batch))
        if counts.total() >= _ROWS_BEFORE_INDEX:
            await guarded(index_keys(table))
        rows = await guarded(table.count_rows())
        await asyncio.to_thread(mark_whole, self._folder.path / "lance" / f"{settled.name}.lance", rows)
        bucket.handles[settled.name] = table
        return list(counts), rows

    async def _write_bucket(self, number: int, rows: list[Row], known_ids: Collection[str]) -> None:
        """Write rows to a bucket. `known_ids`: ids that may exist in the growing table."""
        bucket = self._buckets[number]
        if not bucket.entries:
            await self._add_tables(number, (), [self._made])
        elif bucket.entries[-1].made != bucket.entries[0].made or bucket.entries[-1].is_settled:
            await self._add_tables(number, bucket.entries, [bucket.entries[0].made])
        entry, table = bucket.tables[-1]
        if any(row.embedder not in ("", entry.made.embedder) for row in rows):
            raise StoreFailed("the bucket was rebuilt meanwhile")
        candidates = [row for row in rows if row.record.id in known_ids]
        present = await self._existing_ids(table, candidates) if candidates else set()
        # an upsert reads and rewrites; only rows in this very table need one
        new = [row for row in rows if row.record.id not in present]
        existing = [row for row in rows if row.record.id in present]
        if new:
            await table.add(await asyncio.to_thread(to_arrow, new, entry.made.dimensions))
        if existing:
            upsert = table.merge_insert("id").use_index(False).when_matched_update_all().when_not_matched_insert_all()
            await upsert.execute(await asyncio.to_thread(to_arrow, existing, entry.made.dimensions))

    async def _existing_ids(self, table: Any, rows: Sequence[Row]) -> set[str]:
        """The ids of these rows that a table has already."""
        arrow = await table.query().where(has_id([row.record.id for row in rows])).select(["id"]).to_arrow()
        return set(arrow.column("id").to_pylist())

    async def _add_tables(self, number: int, entries: Sequence[TableEntry], formats: Sequence[Made]) -> None:
        """Set a bucket's tables to `entries`, followed by new growing tables of these formats; durable and atomic."""
        bucket = self._buckets[number]
        added: list[TableEntry] = []
        for format_ in formats:
            entry = TableEntry(self._tables.catalog.new_name(number, [*entries, *added]), format_)
            bucket.handles[entry.name] = await guarded(self._tables.create(entry))
            added.append(entry)
        await self._sync()
        await guarded(self._tables.enter(number, bucket, (*entries, *added)))

    async def _sync(self) -> None:
        try:
            await asyncio.to_thread(sync_tree, self._folder.path / "lance", self._synced_at - 2)
        except OSError as error:
            raise StoreFailed(short(error)) from error

    async def _require_folder(self) -> None:
        """Raise StoreFailed if the folder was moved away: LanceDB would recreate it, and lose rows written there."""
        if not await asyncio.to_thread(self._tables.is_in_place):
            raise StoreFailed("the folder of the tables is not the one that was opened", is_outage=True)

    def _require_open(self) -> None:
        if not self._tables.is_open or not self._buckets:
            raise StoreFailed("the store is not open")
