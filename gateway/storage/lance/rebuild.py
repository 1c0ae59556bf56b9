"""Rebuilds buckets: all rows of a bucket, sorted by scope, in one settled table (LanceDB is slow on scattered rows).

A bucket is rebuilt when its growing table is large, when rows need a new format, and to erase deleted rows. It is read
and written meanwhile. The replaced tables stay a while, for readers and for a back-up that copies the folder.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway.storage.errors import StorageError
from gateway.storage.lance.buckets import READ_TIMEOUT, Buckets
from gateway.storage.lance.catalog import TableEntry, new_name
from gateway.storage.lance.conditions import guarded, hex_of
from gateway.storage.lance.near import index_keys, index_words
from gateway.storage.lance.place import Bucket
from gateway.storage.lance.schema import to_arrow
from gateway.storage.lance.tables import scope_groups
from gateway.storage.protocols import Prepare
from gateway.storage.rows import LoadedRows, RowFormat

__all__ = ["Rebuilder"]

_REBUILD_ROWS = 8_192  # rows of a growing table that are worth a rebuild,
_REBUILD_SHARE = 4  # or one in four of the settled ones: so that a row is rewritten only a few times in all
_ROWS_BEFORE_INDEX = 5_000
_LARGE_SCOPE = 20_000  # rows of one scope from which on its table gets an index of words
_REBUILD_BATCH = 4_096  # rows; a larger scope is read as one batch
_COPY_GRACE = 600.0  # seconds that a replaced table stays, for a back-up that copies the folder meanwhile
_VERSION_RETENTION = timedelta(minutes=1)  # twice as long as any read may take


class Rebuilder:
    """Rebuilds buckets, one at a time. `compact_fragments`: the number of fragments of a growing table from which on it
    is compacted. All methods raise StorageError."""

    def __init__(self, buckets: Buckets, compact_fragments: int) -> None:
        self._buckets = buckets
        self._place = buckets.place
        self._compact_fragments = compact_fragments
        self._tables = buckets.tables
        self._rebuilding = asyncio.Lock()

    async def maintain(self, number: int) -> bool:
        """Compact a bucket's growing table if it has many fragments, or rebuild the bucket if that table is large.
        False if there was nothing to do."""
        bucket = self._buckets[number]
        await guarded(self._tables.drop_leftovers(bucket))
        if not bucket.entries or self._rebuilding.locked() or not self._may_need_it(bucket):
            return False
        epoch = (await self._buckets.ready(number)).epoch
        *settled, (_, growing) = bucket.tables
        stats = await guarded(growing.stats(), self._place.read_timeout)
        rows = sum([await guarded(table.count_rows(), self._place.read_timeout) for _, table in settled])
        bucket.is_changed = False
        has_one_format = len({entry.row_format for entry in bucket.entries}) == 1  # else it awaits one with `prepare`
        if has_one_format and stats["num_rows"] > _rows_worth_a_rebuild(rows):
            await self.rebuild(number, bucket.entries[0].row_format, None)
        elif stats["fragment_stats"]["num_fragments"] >= self._compact_fragments:
            async with self._buckets.writing:
                await guarded(growing.optimize(cleanup_older_than=_VERSION_RETENTION))
                noted = self._buckets.note_version(number, bucket.entries[-1].name, epoch)
                await guarded(noted, self._place.write_timeout)
        else:
            return False
        return True

    def _may_need_it(self, bucket: Bucket) -> bool:
        """False if it is known, without opening its tables, that a bucket needs no maintenance."""
        if not self._place.is_lazy or bucket.is_changed:
            return True
        *settled, growing = bucket.entries
        return growing.rows > _rows_worth_a_rebuild(sum(entry.rows for entry in settled))

    async def purge(self, number: int) -> None:
        """Rebuild a bucket without its deleted rows, and remove the old files."""
        self._buckets.require_owned(number)
        bucket = self._buckets[number]
        if not bucket.entries:
            return
        await self.rebuild(number, None, None)
        deadline = time.monotonic() + READ_TIMEOUT.total_seconds()
        bucket.leftovers = dict.fromkeys(bucket.leftovers, 0.0)
        while bucket.leftovers:
            await guarded(self._tables.drop_leftovers(bucket))
            if bucket.leftovers and time.monotonic() > deadline:
                raise StorageError("store", "old tables are still being read")
            await asyncio.sleep(0.01 if bucket.leftovers else 0)

    async def rebuild(self, number: int, row_format: RowFormat | None, prepare: Prepare | None) -> list[str]:
        """Merge all rows of a bucket into one settled table, converted by `prepare` (None: unchanged) to a format
        (None: the bucket's own). Deleted rows are dropped. With `prepare`, rows written meanwhile wait for the next
        rebuild. Returns the scopes in it."""
        async with self._rebuilding:
            self._buckets.require_owned(number)
            bucket = await self._buckets.ready(number)
            epoch = bucket.epoch
            # rows written meanwhile keep the old format, so that all rows read until the end have one format
            before = bucket.entries[0].row_format
            if row_format is None and len({entry.row_format for entry in bucket.entries}) > 1:
                raise StorageError("store", "its memories are being rebuilt for another embedder")
            row_format = row_format or before
            async with self._buckets.writing:
                entry, table = bucket.tables[-1]
                is_fresh = not entry.is_settled and entry.row_format == before and not await guarded(table.count_rows())
                if not is_fresh:  # else reuse the one that an earlier attempt began
                    await self._buckets.add_tables(number, bucket.entries, [before], epoch)
            *old, (growing, _) = bucket.tables
            settled = TableEntry(new_name(number, bucket.entries), row_format, is_settled=True)
            try:
                scopes, settled = await self._copy(old, bucket, settled, prepare)
            except BaseException:
                with contextlib.suppress(StorageError):
                    await guarded(self._tables.drop(bucket, settled.name))
                raise
            async with self._buckets.writing:
                self._tables.require_epoch(number, epoch)
                growing = next(entry for entry in bucket.entries if entry.name == growing.name)  # with its new rows
                added = [row_format] if before != row_format else []
                await self._buckets.add_tables(number, (settled, growing), added, epoch)
            until = time.monotonic() + _COPY_GRACE
            bucket.leftovers = dict.fromkeys(bucket.leftovers, 0.0) | {entry.name: until for entry, _ in old}
            return scopes

    async def _copy(
        self, old: list[tuple[TableEntry, Any]], bucket: Bucket, settled: TableEntry, prepare: Prepare | None
    ) -> tuple[list[str], TableEntry]:
        """Copy rows into a new settled table. Returns their scopes, and the table's entry with what is known of it."""
        table = await guarded(self._tables.create(settled))
        source = Bucket(tuple(entry for entry, _ in old), {entry.name: handle for entry, handle in old})
        counts, oldest = Counter[str](), math.inf
        for _, handle in old:
            arrow = await guarded(handle.query().select(["scope"]).to_arrow())
            counts.update(arrow.column("scope").to_pylist())
        for scopes in scope_groups(counts, _REBUILD_BATCH):
            condition = f"scope IN ({','.join(repr(hex_of(scope)) for scope in scopes)})"
            tables = await self._buckets.read_tables(source, condition)
            rows = await asyncio.to_thread(LoadedRows, tables)
            if not len(rows):
                continue
            data = await asyncio.to_thread(rows.by_scope)
            for begin in range(0, len(data), _REBUILD_BATCH):
                batch = data.slice(begin, _REBUILD_BATCH)
                if prepare is not None:
                    prepared = await prepare(await asyncio.to_thread(LoadedRows([batch]).rows))
                    batch = await asyncio.to_thread(to_arrow, prepared, settled.row_format.dimensions)
                oldest = min(oldest, await asyncio.to_thread(_oldest, batch))
                await guarded(table.add(batch))
        if counts.total() >= _ROWS_BEFORE_INDEX:
            await guarded(index_keys(table))
        if max(counts.values(), default=0) >= _LARGE_SCOPE:  # may be searched by processes that do not write
            await guarded(index_words(table))
        rows = await guarded(table.count_rows())
        await self._place.mark_whole(settled.name, rows)
        bucket.handles[settled.name] = table
        settled = replace(settled, rows=rows)
        if self._place.is_lazy:
            settled = replace(settled, version=int(await table.version()), oldest=oldest, changed_at=math.inf)
        return list(counts), settled


def _rows_worth_a_rebuild(settled_rows: int) -> int:
    """The number of rows of a growing table above which its bucket is rebuilt."""
    return max(_REBUILD_ROWS, settled_rows // _REBUILD_SHARE)


def _oldest(batch: Any) -> float:
    """When the oldest memory of an Arrow table was created."""
    import pyarrow.compute as pc  # noqa: PLC0415 — heavy: loaded behind the open port

    return float(pc.min(batch["created_at"]).as_py().timestamp())
