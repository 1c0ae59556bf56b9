"""The record of all memories: LanceDB tables in the data folder.

Every method takes a `Scope` or rows that carry one; there is no way to read without. No text of a user ever becomes
part of a filter: a scope is 64 hex characters. The memory is split into buckets by scope. What is written goes into a
bucket's growing table; when that has become large, or rows are to be made anew, the bucket is rebuilt: all its rows,
sorted by scope (scattered rows are what makes LanceDB slow), into one settled table that is never written again. A row
may so stand in several tables: its newest version counts. Ids are ours, and one process writes (it holds the lock of
the folder), so plain adds suffice; a row that an earlier process may have added goes through an upsert.
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

from gateway.store.catalog import Made, TableEntry
from gateway.store.conditions import StoreFailed, guarded, has_id, hex_of, is_of, short
from gateway.store.disk import probe_disk, sync_tree
from gateway.store.folder import DataFolder
from gateway.store.loaded import Loaded, Row
from gateway.store.mending import mark_whole
from gateway.store.near import WordIndexes, index_keys, near
from gateway.store.schema import to_arrow
from gateway.store.tables import Bucket, Tables, scope_groups
from gateway.turn import Record, Scope

__all__ = ["MemoryStore", "Prepare", "StoreFailed"]

_READ_TIMEOUT = timedelta(seconds=30)
_FRAGMENTS_BEFORE_COMPACTION = 64  # of a growing table, which is small
_GROWN = 8_192  # rows of a growing table that are worth a rebuild
_GROWN_SHARE = 4  # or one in four of the settled ones: so a row is rewritten a few times in all
_ROWS_BEFORE_INDEX = 5_000
_ROWS_AT_ONCE = 4_096  # of a rebuild; a larger scope is read as one piece
_IDS_AT_ONCE = 500
_KEPT_FOR_COPIES = 600.0  # seconds that a replaced table stays for whoever copies the folder just then
_VERSIONS_KEPT = timedelta(minutes=1)  # twice as long as any read may take

Prepare = Callable[[list[Row]], Awaitable[list[Row]]]
"""Makes rows anew: their vectors and terms."""


class MemoryStore:
    """Reads and writes rows. `open` takes seconds (LanceDB is heavy): call it behind the open port. `made`: how rows
    are to be made; those of earlier settings stay readable until their bucket is rebuilt."""

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
        """Import LanceDB and open what is there. Raises StoreFailed."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        first = Made(self._folder.embedder, self._folder.dimensions, 1)
        self._buckets = await guarded(self._tables.open(self._folder.buckets, first))

    async def close(self) -> None:
        await self._word_indexes.stop()
        buckets, self._buckets = self._buckets, {}
        self._tables.close(list(buckets.values()))

    @property
    def mended(self) -> Sequence[str]:
        """Tables that were found damaged at the start, and brought back as far as they can be read."""
        return self._tables.mended

    def made_of(self, scope: str) -> Made:
        """How the rows of a scope are made now; what is added to it must be made so."""
        entries = self._buckets[self.bucket_of(scope)].entries if self._buckets else ()
        return entries[0].made if entries else self._made

    async def find(self, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by their ids, in whatever scope: whoever asks checks whose they are. Raises StoreFailed."""
        condition = has_id(memory_ids)
        if not condition:
            return []
        self._require_open()
        found = await asyncio.gather(*(self._read(bucket, condition) for bucket in self._buckets.values()))
        return await asyncio.to_thread(lambda: [record for tables in found for record in Loaded(tables).records()])

    async def load(self, scope: Scope) -> Loaded:
        """All rows of a scope in the order they were remembered. Raises StoreFailed."""
        condition = is_of(scope.value)
        self._require_open()
        tables = await self._read(self._buckets[self.bucket_of(scope.value)], condition)
        return await asyncio.to_thread(Loaded, tables, scope)

    async def is_larger(self, scope: Scope, rows: int) -> bool:
        """True if a scope has more rows than this, those with several versions counted as often. Raises StoreFailed."""
        self._require_open()
        number = self.bucket_of(scope.value)
        return await self.count(number) > rows and await self.count(number, is_of(scope.value)) > rows

    async def scopes_in(self, number: int) -> set[str]:
        """The scopes that have rows in a bucket. Raises StoreFailed."""
        tables = await self.rows(number, None, ["scope"])
        return {scope for table in tables for scope in table.column("scope").unique().to_pylist()}

    async def near(self, scope: Scope, words: Sequence[str], vector: Any) -> Loaded:
        """Rows of a scope that may belong to a query, and some others to compare them with. Raises StoreFailed."""
        self._require_open()
        condition, bucket = is_of(scope.value), self._buckets[self.bucket_of(scope.value)]
        dimensions = self.made_of(scope.value).dimensions
        reads = []
        with bucket.reading() as held:
            for entry, table in held:
                known = words if await self._word_indexes.is_there(entry.name, table) else ()
                meant = vector if entry.made.dimensions == dimensions else None
                reads.append(guarded(near(table, condition, known, meant)))
            found = await asyncio.gather(*reads)
        tables = [table for tables in found for table in tables]
        if len(bucket.tables) > 1:  # a newer version, or a deletion, may stand in another table, and far away
            ids = {id_ for table in tables for id_ in table.column("id").to_pylist()}
            wanted = has_id(ids)
            tables += await self._read(bucket, f"{condition} AND {wanted}") if wanted else []
        return await asyncio.to_thread(Loaded, tables, scope)

    async def versions(self, records: Iterable[Record]) -> dict[str, tuple[int, str]]:
        """The newest stored version of each of these ids, with its scope; what is not there is left out. Raises
        StoreFailed."""
        found: dict[str, tuple[int, str]] = {}
        names = ("id", "version", "scope")
        async for table in self._having(records, names):
            for id_, version, scope in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                found[id_] = max((version, scope), found.get(id_, (0, "")))
        return found

    async def deleted(self, records: Iterable[Record]) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The ids of those that were deleted: the version of that, and the links they had. Raises StoreFailed."""
        newest: dict[str, tuple[int, str, tuple[str, ...]]] = {}
        names = ("id", "version", "status", "links")
        async for table in self._having(records, names):
            for id_, version, status, links in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                newest[id_] = max((version, status, tuple(links or ())), newest.get(id_, (0, "", ())))
        return {id_: (version, links) for id_, (version, status, links) in newest.items() if status == "deleted"}

    async def rows(self, number: int, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        """Rows of a bucket as Arrow tables, all versions of each; `condition` holds nothing of a user's. Raises
        StoreFailed."""
        self._require_open()
        return await self._read(self._buckets[number], condition, columns)

    async def _read(self, bucket: Bucket, condition: str | None, columns: Sequence[str] | None = None) -> list[Any]:
        with bucket.reading() as tables:
            queries = [table.query() if condition is None else table.query().where(condition) for _, table in tables]
            chosen = queries if columns is None else [query.select(list(columns)) for query in queries]
            return list(await asyncio.gather(*(guarded(query.to_arrow(timeout=_READ_TIMEOUT)) for query in chosen)))

    async def add(self, rows: Sequence[Row]) -> None:
        """Add rows whose ids are new, or which are newer than what is there. Raises StoreFailed, also if a row was made
        in a way that its bucket has left meanwhile."""
        await self._write(rows, set())

    async def put(self, rows: Sequence[Row]) -> list[Row]:
        """Add rows that may be there, or may be older than what is there. Returns those that count. Raises StoreFailed
        as `add`."""
        newest = await self._newest(rows)
        counting = [row for row in rows if (row.record.version, row.seq) >= newest.get(row.record.id, (0, 0))]
        await self._write(counting, set(newest))
        return counting

    async def _newest(self, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
        """The newest version that the store has of each of these, with its number."""
        names = ("id", "version", "seq")
        found: dict[str, tuple[int, int]] = {}
        async for table in self._having([row.record for row in rows], names):
            for id_, version, seq in zip(*(table.column(name).to_pylist() for name in names), strict=True):
                found[id_] = max((version, seq), found.get(id_, (0, 0)))
        return found

    async def _having(self, records: Iterable[Record], names: Sequence[str]) -> AsyncIterator[Any]:
        """Columns of all versions of these records, as Arrow tables."""
        self._require_open()
        by_bucket: dict[int, list[str]] = defaultdict(list)
        for record in records:
            by_bucket[self.bucket_of(record.scope)].append(record.id)
        for number, ids in by_bucket.items():
            for begin in range(0, len(ids), _IDS_AT_ONCE):
                condition = has_id(ids[begin : begin + _IDS_AT_ONCE])
                for table in await self._read(self._buckets[number], condition, names):
                    yield table

    async def _write(self, rows: Sequence[Row], held: Collection[str]) -> None:
        self._require_open()
        by_bucket: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_bucket[self.bucket_of(row.record.scope)][row.record.id] = row
        async with self._writing:
            await self._require_folder()
            for number, members in by_bucket.items():
                await guarded(self._write_bucket(number, list(members.values()), held))

    async def sync(self) -> None:
        """Bring all files written since the last call to the disk; LanceDB itself never does. Raises StoreFailed."""
        started = time.time()
        async with self._writing:
            await self._require_folder()
            await self._sync()
        self._synced_at = started

    async def probe(self, scope: str) -> None:
        """Raises StoreFailed if nothing of a scope could be written or read now, whatever it is."""
        self._require_open()
        await self._require_folder()
        try:
            await asyncio.to_thread(probe_disk, self._folder.path / "lance" / "probe")
        except OSError as error:
            raise StoreFailed(short(error), is_outage=True) from error
        await self._read(self._buckets[self.bucket_of(scope)], is_of(scope), ["id"])

    async def maintain(self, number: int) -> bool:
        """Compact a bucket's growing table of many pieces, or rebuild the bucket if it has grown. False if nothing was
        to be done."""
        bucket = self._buckets[number]
        await guarded(self._tables.drop_leftovers(bucket))
        if not bucket.entries or self._rebuilding.locked():
            return False
        *settled, (_, growing) = bucket.tables
        stats = await guarded(growing.stats())
        rows = sum([await guarded(table.count_rows()) for _, table in settled])
        is_of_one_kind = len({entry.made for entry in bucket.entries}) == 1  # else it is to be made anew
        if is_of_one_kind and stats["num_rows"] > max(_GROWN, rows // _GROWN_SHARE):
            await self.rebuild(number, bucket.entries[0].made, None)
        elif stats["fragment_stats"]["num_fragments"] >= _FRAGMENTS_BEFORE_COMPACTION:
            async with self._writing:
                await guarded(growing.optimize(cleanup_older_than=_VERSIONS_KEPT))
        else:
            return False
        return True

    @property
    def buckets(self) -> Sequence[int]:
        """The numbers of all buckets."""
        return list(self._buckets)

    @property
    def made(self) -> Made:
        """How rows are to be made."""
        return self._made

    def outdated(self) -> dict[int, Made]:
        """Buckets with rows that are not made as they are to be made now, with how they are made."""
        return {
            number: entry.made
            for number, bucket in self._buckets.items()
            for entry in reversed(bucket.entries)
            if entry.made != self._made
        }

    async def count(self, number: int, condition: str | None = None) -> int:
        """Rows of a bucket, those with several versions counted as often. Raises StoreFailed."""
        return sum([await guarded(table.count_rows(condition)) for _, table in self._buckets[number].tables])

    def bucket_of(self, scope: str) -> int:
        """The number of the bucket that a scope's rows are in."""
        return int(scope[:8], 16) % self._folder.buckets

    async def purge(self, number: int) -> None:
        """Write a bucket anew, without what was deleted, and take the old files away. Raises StoreFailed."""
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
        """Rows of a bucket's growing tables; several, where a rebuild did not come to its end. Raises StoreFailed."""
        growing = [table for entry, table in self._buckets[number].tables if not entry.is_settled]
        return sum([await guarded(table.count_rows(condition)) for table in growing])

    async def rebuild(self, number: int, made: Made | None, prepare: Prepare | None) -> list[str]:
        """All rows of a bucket into one settled table, sorted by scope; made anew by `prepare`, or (None) as they are.
        Deleted ones are left behind. It is served and written to meanwhile; where it is made anew, what was written
        meanwhile waits for the next rebuild. Returns the scopes in it. Raises StoreFailed."""
        async with self._rebuilding:
            bucket = self._buckets[number]
            # what is written meanwhile is made as before, so that all that is read until the end is of one kind
            before = bucket.entries[0].made
            if made is None and len({entry.made for entry in bucket.entries}) > 1:
                raise StoreFailed("its memories are being made anew for another embedder")
            made = made or before
            async with self._writing:
                entry, table = bucket.tables[-1]
                is_fresh = not entry.is_settled and entry.made == before and not await guarded(table.count_rows())
                if not is_fresh:  # else one that an earlier attempt began
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
            until = time.monotonic() + _KEPT_FOR_COPIES
            bucket.leftovers = dict.fromkeys(bucket.leftovers, 0.0) | {entry.name: until for entry, _ in old}
            return scopes

    async def _copy(
        self, old: list[tuple[TableEntry, Any]], bucket: Bucket, settled: TableEntry, prepare: Prepare | None
    ) -> tuple[list[str], int]:
        """The scopes that were copied, and the rows of the new table."""
        table = await guarded(self._tables.create(settled))
        source = Bucket(tuple(entry for entry, _ in old), {entry.name: handle for entry, handle in old})
        counts = Counter[str]()
        for _, handle in old:
            arrow = await guarded(handle.query().select(["scope"]).to_arrow())
            counts.update(arrow.column("scope").to_pylist())
        for scopes in scope_groups(counts, _ROWS_AT_ONCE):
            condition = f"scope IN ({','.join(repr(hex_of(scope)) for scope in scopes)})"
            tables = await self._read(source, condition)
            rows = await asyncio.to_thread(Loaded, tables)
            if not len(rows):
                continue
            data = rows.by_scope()
            for begin in range(0, len(data), _ROWS_AT_ONCE):
                part = data.slice(begin, _ROWS_AT_ONCE)
                if prepare is not None:
                    prepared = await prepare(await asyncio.to_thread(Loaded([part]).rows))
                    part = await asyncio.to_thread(to_arrow, prepared, settled.made.dimensions)
                await guarded(table.add(part))
        if counts.total() >= _ROWS_BEFORE_INDEX:
            await guarded(index_keys(table))
        rows = await guarded(table.count_rows())
        await asyncio.to_thread(mark_whole, self._folder.path / "lance" / f"{settled.name}.lance", rows)
        bucket.handles[settled.name] = table
        return list(counts), rows

    async def _write_bucket(self, number: int, rows: list[Row], held: Collection[str]) -> None:
        """`held`: ids that may stand in the growing table."""
        bucket = self._buckets[number]
        if not bucket.entries:
            await self._add_tables(number, (), [self._made])
        elif bucket.entries[-1].made != bucket.entries[0].made or bucket.entries[-1].is_settled:
            await self._add_tables(number, bucket.entries, [bucket.entries[0].made])
        entry, table = bucket.tables[-1]
        if any(row.embedder not in ("", entry.made.embedder) for row in rows):
            raise StoreFailed("the bucket was rebuilt meanwhile")
        doubtful = [row for row in rows if row.record.id in held]
        there = await self._held(table, doubtful) if doubtful else set()
        # an upsert reads and rewrites; only what is in this very table needs one
        new = [row for row in rows if row.record.id not in there]
        known = [row for row in rows if row.record.id in there]
        if new:
            await table.add(await asyncio.to_thread(to_arrow, new, entry.made.dimensions))
        if known:
            upsert = table.merge_insert("id").use_index(False).when_matched_update_all().when_not_matched_insert_all()
            await upsert.execute(await asyncio.to_thread(to_arrow, known, entry.made.dimensions))

    async def _held(self, table: Any, rows: Sequence[Row]) -> set[str]:
        """Which of these ids a table has."""
        found = await table.query().where(has_id([row.record.id for row in rows])).select(["id"]).to_arrow()
        return set(found.column("id").to_pylist())

    async def _add_tables(self, number: int, entries: Sequence[TableEntry], made: Sequence[Made]) -> None:
        """From now on these tables hold the bucket, and new growing ones after them; durable, and all or nothing."""
        bucket = self._buckets[number]
        added: list[TableEntry] = []
        for one in made:
            entry = TableEntry(self._tables.catalog.new_name(number, [*entries, *added]), one)
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
        """LanceDB makes a folder anew that somebody has moved away, and what it writes there is lost with it."""
        if not await asyncio.to_thread(self._tables.is_in_place):
            raise StoreFailed("the folder of the tables is not the one that was opened", is_outage=True)

    def _require_open(self) -> None:
        if not self._tables.is_open or not self._buckets:
            raise StoreFailed("the store is not open")
