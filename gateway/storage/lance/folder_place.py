"""A folder as the place of LanceDB's tables: all of them are opened, checked and repaired at the start."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.storage.disk import probe_disk, sync_tree
from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import TableEntry, bucket_of, number_of
from gateway.storage.lance.conditions import short
from gateway.storage.lance.connection import connecting
from gateway.storage.lance.file_catalog import FileCatalog
from gateway.storage.lance.near import index_keys
from gateway.storage.lance.place import Bucket
from gateway.storage.lance.repair import (
    drop_torn_indexes,
    has_torn_index,
    is_torn,
    mark_whole,
    marked_rows,
    mended,
)
from gateway.storage.rows import RowFormat
from gateway.text.form import UNKNOWN_FORM

__all__ = ["FolderPlace"]

_log = logging.getLogger("gateway.store")
_ADDED_COLUMNS = {
    "version": "CAST(1 AS INT)",
    "metadata": "'{}'",
    "form": f"CAST({UNKNOWN_FORM} AS BIGINT)",
    "worth": "CAST(0 AS FLOAT)",
    "flags": "CAST(NULL AS INT)",  # derived from `info` when the rows are read
}
"""Columns that tables of earlier versions lack, with the default for their rows (SQL)."""


class FolderPlace:
    """The folder `lance` of a data folder; see `Place`. The lock of the data folder must be held."""

    is_lazy = False
    read_timeout: float | None = None
    write_timeout: float | None = None

    def __init__(self, folder: Path, catalog: FileCatalog) -> None:
        self.path = folder / "lance"
        self._catalog = catalog
        self._aside = folder / "broken"
        self._mended: list[str] = []
        self._database: Any = None
        self._identity = (0, 0)  # device and inode of the folder

    @property
    def repaired(self) -> list[str]:
        return self._mended

    async def connect(self) -> Any:
        await asyncio.to_thread(self.path.mkdir, parents=True, exist_ok=True)
        self._identity = await asyncio.to_thread(_folder_identity, self.path)
        connect = await asyncio.to_thread(connecting, self.path)
        return await connect()

    async def open(self, database: Any, buckets: int, first: RowFormat) -> dict[int, Bucket]:
        """Open all tables, repaired where they are damaged, and drop those that the catalog does not name."""
        self._database = database
        names = (await database.list_tables()).tables
        has_catalog = await asyncio.to_thread(self._catalog.read, names, first)
        opened = {bucket: await self._open_bucket(bucket, names) for bucket in range(buckets)}
        if not has_catalog:
            await self._rebuild_catalog(opened, names, first)
        for name in set(names) - self._catalog.names:
            # left by an aborted rebuild, or replaced by one
            await database.drop_table(name, ignore_missing=True)
        return opened

    async def require(self) -> None:
        """Raise StorageError if the folder was moved away: LanceDB would recreate it, and lose rows written there."""
        if not await asyncio.to_thread(self._is_in_place):
            raise StorageError("store", "the folder of the tables is not the one that was opened", is_outage=True)

    def _is_in_place(self) -> bool:
        try:
            return _folder_identity(self.path) == self._identity
        except OSError:
            return False

    async def sync(self, since: float) -> None:
        """fsync all files written since a moment, which LanceDB never does."""
        try:
            await asyncio.to_thread(sync_tree, self.path, since)
        except OSError as error:
            raise StorageError("store", short(error)) from error

    async def probe(self) -> None:
        try:
            await asyncio.to_thread(probe_disk, self.path / "probe")
        except OSError as error:
            raise StorageError("store", short(error), is_outage=True) from error

    async def mark_whole(self, name: str, rows: int) -> None:
        await asyncio.to_thread(mark_whole, self.path / f"{name}.lance", rows)

    async def _open_bucket(self, number: int, names: Sequence[str]) -> Bucket:
        bucket = Bucket(self._catalog.tables(number))
        lost = [entry for entry in bucket.entries if not await self._open_complete(bucket, entry, names)]
        if lost:
            unknown = [name for name in names if bucket_of(name) == number and name not in self._catalog.names]
            row_format = bucket.entries[0].row_format
            entries = await self._recover_entries(bucket, lost, [TableEntry(name, row_format) for name in unknown])
            await self._catalog.switch({number: tuple(entries)})
            bucket.entries = tuple(entries)
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
            await self._catalog.switch({number: tuple(entries) for number, entries in recovered.items()})
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
            rows = await asyncio.to_thread(marked_rows, self.path / f"{candidate.name}.lance")
            entry = replace(candidate, is_settled=rows >= 0, rows=rows)
            is_complete = await self._open_complete(bucket, entry, [entry.name])
            if entry.name in bucket.handles:
                present[entry.name] = entry
                complete = number_of(entry.name) if rows >= 0 and is_complete else complete
        entries = [entry for name, entry in present.items() if number_of(name) >= complete - 1]
        settled = [entry for entry in entries if entry.is_settled]
        growing = sorted((entry for entry in entries if not entry.is_settled), key=lambda entry: number_of(entry.name))
        self._mended.extend(entry.name for entry in lost)
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
        path = self.path / f"{entry.name}.lance"
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
        self._mended.append(entry.name)
        aside = self._aside / f"{entry.name}-{int(time.time())}"
        return await mended(lambda: self._database.open_table(entry.name), path, aside, asyncio.to_thread)

    async def _rebuild_indexes(self, table: Any, name: str) -> None:
        """Replace damaged indexes, which can be rebuilt from the rows."""
        _log.error("index_damaged", extra={"table": name})
        self._mended.append(name)
        for index in await table.list_indices():
            await table.drop_index(index.name)
        await index_keys(table)
        await asyncio.to_thread(drop_torn_indexes, self.path / f"{name}.lance")


async def _detect_format(table: Any, first: RowFormat) -> RowFormat:
    """Detect the format of a table's rows; their terms count as outdated, so that all rows are rebuilt."""
    dimensions = (await table.schema()).field("vector").type.list_size
    rows = await table.query().where("embedder != ''").select(["embedder"]).limit(1).to_arrow()
    names = rows.column("embedder").to_pylist()
    return RowFormat(names[0] if names else first.embedder, dimensions, first.terms)


def _folder_identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
