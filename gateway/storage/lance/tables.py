"""Lifecycle of the LanceDB tables of all buckets: open, repair, create, enter in the catalog, drop.

Readers take the tables of a bucket with `reading`; a table that a rebuild has replaced is dropped only after its last
read has ended.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.storage.lance.catalog import Catalog, TableEntry, bucket_of, number_of
from gateway.storage.lance.connection import connecting
from gateway.storage.lance.near import index_keys
from gateway.storage.lance.repair import drop_torn_indexes, has_torn_index, is_torn, marked_rows, mended
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import RowFormat
from gateway.text.form import UNKNOWN_FORM

__all__ = ["Bucket", "Tables", "scope_groups"]

_log = logging.getLogger("gateway.store")
_ADDED_COLUMNS = {
    "version": "CAST(1 AS INT)",
    "metadata": "'{}'",
    "form": f"CAST({UNKNOWN_FORM} AS BIGINT)",
    "worth": "CAST(0 AS FLOAT)",
    "flags": "CAST(NULL AS INT)",  # derived from `info` when the rows are read
}
"""Columns that tables of earlier versions lack, with the default for their rows (SQL)."""


@dataclass(slots=True)
class Bucket:
    """The tables of a bucket, the growing one last. `leftovers`: replaced tables with their time to be dropped (of
    `time.monotonic`), which happens when no read uses them."""

    entries: tuple[TableEntry, ...] = ()
    handles: dict[str, Any] = field(default_factory=dict)
    leftovers: dict[str, float] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)

    @property
    def tables(self) -> list[tuple[TableEntry, Any]]:
        return [(entry, self.handles[entry.name]) for entry in self.entries]

    @contextmanager
    def reading(self) -> Iterator[list[tuple[TableEntry, Any]]]:
        """The current tables, protected from being dropped inside the context."""
        tables = self.tables
        names = [entry.name for entry, _ in tables]
        self.readers.update(names)
        try:
            yield tables
        finally:
            self.readers.subtract(names)


class Tables:
    """LanceDB's tables in `folder`, and their catalog. Errors are LanceDB's own, OSError or ValueError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.catalog = Catalog(folder / "tables.json")
        self.mended: list[str] = []  # names of tables that were damaged
        self._database: Any = None
        self._identity = (0, 0)  # device and inode of the folder
        self._refreshing = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._database is not None

    def is_in_place(self) -> bool:
        """True if the folder is still the one that was opened. Blocks on a file: call it in a thread."""
        try:
            status = (self._folder / "lance").stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    async def open(self, buckets: int, first: RowFormat) -> dict[int, Bucket]:
        """Open all tables, by bucket. `first`: the row format of a folder without a catalog."""
        lance = self._folder / "lance"
        await asyncio.to_thread(lance.mkdir, parents=True, exist_ok=True)
        self._identity = await asyncio.to_thread(_folder_identity, lance)
        connect = await asyncio.to_thread(connecting, lance)
        self._database = await connect()
        try:
            names = (await self._database.list_tables()).tables
            has_catalog = await asyncio.to_thread(self.catalog.read, names, first)
            opened = {bucket: await self._open_bucket(bucket, names) for bucket in range(buckets)}
            if not has_catalog:
                await self._rebuild_catalog(opened, names, first)
            for name in set(names) - self.catalog.names:
                # left by an aborted rebuild, or replaced by one
                await self._database.drop_table(name, ignore_missing=True)
            return opened
        except BaseException:
            self._database = None
            raise

    async def open_reader(self, buckets: int) -> dict[int, Bucket]:
        """Open the tables to read them, while another process writes them."""
        lance = self._folder / "lance"
        connect = await asyncio.to_thread(connecting, lance, is_reader=True)
        self._database = await connect()
        opened = {bucket: Bucket() for bucket in range(buckets)}
        await self.refresh(opened)
        return opened

    async def refresh(self, buckets: Mapping[int, Bucket]) -> None:
        """Take over the changes of the catalog by the process that writes the tables."""
        async with self._refreshing:
            await self._refresh(buckets)

    async def _refresh(self, buckets: Mapping[int, Bucket]) -> None:
        for bucket in buckets.values():
            for name in [name for name in bucket.leftovers if not bucket.readers[name]]:
                del bucket.leftovers[name]
                bucket.handles.pop(name).close()
        if not await asyncio.to_thread(self.catalog.read_again):
            return
        try:
            await self._take_over(buckets)
        except BaseException:
            self.catalog.expire()
            raise

    async def _take_over(self, buckets: Mapping[int, Bucket]) -> None:
        """Open the tables that the catalog has now."""
        for number, bucket in buckets.items():
            entries = self.catalog.tables(number)
            for entry in entries:
                if entry.name not in bucket.handles:
                    bucket.handles[entry.name] = await self._database.open_table(entry.name)
            bucket.entries = entries
            names = {entry.name for entry in entries}
            bucket.leftovers = {name: 0.0 for name in bucket.handles if name not in names}

    def close(self, buckets: Sequence[Bucket]) -> None:
        for bucket in buckets:
            for table in bucket.handles.values():
                table.close()
        if self._database is not None:
            self._database.close()
            self._database = None

    async def create(self, entry: TableEntry) -> Any:
        """Create an empty table."""
        schema = (await asyncio.to_thread(to_arrow, [], entry.row_format.dimensions)).schema
        await self._database.drop_table(entry.name, ignore_missing=True)  # overwriting would keep its earlier versions
        table = await self._database.create_table(entry.name, schema=schema)
        await table.set_unenforced_primary_key("id")
        return table

    async def enter(self, number: int, bucket: Bucket, entries: Sequence[TableEntry]) -> None:
        """Set the tables of a bucket in the catalog; durable."""
        await asyncio.to_thread(self.catalog.put, number, entries)
        bucket.entries = tuple(entries)

    async def drop(self, bucket: Bucket, name: str) -> None:
        """Drop a table that is no longer part of the bucket."""
        await self._database.drop_table(name, ignore_missing=True)
        handle = bucket.handles.pop(name, None)
        if handle is not None:
            handle.close()

    async def drop_leftovers(self, bucket: Bucket) -> None:
        """Drop the leftovers that are due and have no readers."""
        now = time.monotonic()
        for name in [name for name, due in bucket.leftovers.items() if due <= now and not bucket.readers[name]]:
            if bucket.leftovers.pop(name, None) is not None:
                await self.drop(bucket, name)

    async def _open_bucket(self, number: int, names: Sequence[str]) -> Bucket:
        bucket = Bucket(self.catalog.tables(number))
        lost = [entry for entry in bucket.entries if not await self._open_complete(bucket, entry, names)]
        if lost:
            unknown = [name for name in names if bucket_of(name) == number and name not in self.catalog.names]
            row_format = bucket.entries[0].row_format
            entries = await self._recover_entries(bucket, lost, [TableEntry(name, row_format) for name in unknown])
            await self.enter(number, bucket, entries)
        for table in bucket.handles.values():
            names = (await table.schema()).names
            missing = {name: value for name, value in _ADDED_COLUMNS.items() if name not in names}
            if missing:
                await table.add_columns(missing)
        return bucket

    async def _open_complete(self, bucket: Bucket, entry: TableEntry, names: Sequence[str]) -> bool:
        """Open a table. False if it is missing, or has fewer rows than it should."""
        handle = await self._open_table(entry, names)
        if handle is None:
            return False
        bucket.handles[entry.name] = handle
        return entry.rows < 0 or await handle.count_rows() >= entry.rows

    async def _rebuild_catalog(self, buckets: dict[int, Bucket], names: Sequence[str], first: RowFormat) -> None:
        """Enter the numbered tables without a catalog in one step: a table that is not entered is dropped."""
        recovered: dict[int, Sequence[TableEntry]] = {}
        for number, bucket in buckets.items():
            numbered = [name for name in names if bucket_of(name) == number and number_of(name)]
            candidates = [entry for name in numbered if (entry := await self._candidate(name, first)) is not None]
            if candidates:
                recovered[number] = await self._recover_entries(bucket, [], candidates)
        if recovered:
            await asyncio.to_thread(self.catalog.put_all, recovered)
            for number, entries in recovered.items():
                buckets[number].entries = tuple(entries)

    async def _candidate(self, name: str, first: RowFormat) -> TableEntry | None:
        """The entry of a table that is missing from the catalog; None for an empty one, which a crash left before it
        was entered: no rows are written to a table before that."""
        handle = await self._open_table(TableEntry(name, first), [name])
        if handle is None:
            return None
        try:
            return TableEntry(name, await _detect_format(handle, first)) if await handle.count_rows() else None
        finally:
            handle.close()

    async def _recover_entries(
        self, bucket: Bucket, lost: Sequence[TableEntry], candidates: Sequence[TableEntry]
    ) -> list[TableEntry]:
        """Open the existing tables of a bucket and list them. Needed if the catalog is older or newer than the tables
        (a copy of the folder made while tables were replaced), or a power cut lost some. The newest table marked as
        complete counts, with those after it and the growing one created just before it; without one, all count."""
        present = {entry.name: entry for entry in bucket.entries if entry.name in bucket.handles}
        complete = -1
        for candidate in sorted(candidates, key=lambda entry: number_of(entry.name)):
            rows = await asyncio.to_thread(marked_rows, self._folder / "lance" / f"{candidate.name}.lance")
            entry = replace(candidate, is_settled=rows >= 0, rows=rows)
            is_complete = await self._open_complete(bucket, entry, [entry.name])
            if entry.name in bucket.handles:
                present[entry.name] = entry
                complete = number_of(entry.name) if rows >= 0 and is_complete else complete
        entries = [entry for name, entry in present.items() if number_of(name) >= complete - 1]
        settled = [entry for entry in entries if entry.is_settled]
        growing = sorted((entry for entry in entries if not entry.is_settled), key=lambda entry: number_of(entry.name))
        self.mended.extend(entry.name for entry in lost)
        _log.error(
            "tables_recovered",
            extra={"lost": [entry.name for entry in lost], "counting": [entry.name for entry in entries]},
        )
        for name in set(bucket.handles) - {entry.name for entry in entries}:
            bucket.handles.pop(name).close()
        return [*settled, *growing]

    async def _open_table(self, entry: TableEntry, names: Sequence[str]) -> Any | None:
        """Open a table, repaired if it is damaged. None if it is missing, or no version can be read."""
        if entry.name not in names:
            return None
        path = self._folder / "lance" / f"{entry.name}.lance"
        try:
            if not await asyncio.to_thread(is_torn, path):
                table = await self._database.open_table(entry.name)
                if await asyncio.to_thread(has_torn_index, path):
                    await self._rebuild_indexes(table, entry.name)
                return table
            cause = "torn"
        except (RuntimeError, ValueError) as error:
            cause = str(error)[:200]
        _log.error("table_damaged", extra={"table": entry.name, "cause": cause})
        self.mended.append(entry.name)
        aside = self._folder / "broken" / f"{entry.name}-{int(time.time())}"
        return await mended(lambda: self._database.open_table(entry.name), path, aside, asyncio.to_thread)

    async def _rebuild_indexes(self, table: Any, name: str) -> None:
        """Replace damaged indexes, which can be rebuilt from the rows."""
        _log.error("index_damaged", extra={"table": name})
        self.mended.append(name)
        for index in await table.list_indices():
            await table.drop_index(index.name)
        await index_keys(table)
        await asyncio.to_thread(drop_torn_indexes, self._folder / "lance" / f"{name}.lance")


async def _detect_format(table: Any, first: RowFormat) -> RowFormat:
    """Detect the format of a table's rows; their terms count as outdated, so that all rows are rebuilt."""
    dimensions = (await table.schema()).field("vector").type.list_size
    rows = await table.query().where("embedder != ''").select(["embedder"]).limit(1).to_arrow()
    names = rows.column("embedder").to_pylist()
    return RowFormat(names[0] if names else first.embedder, dimensions, first.terms)


def _folder_identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


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
