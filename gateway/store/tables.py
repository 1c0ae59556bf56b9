"""The tables of all buckets: opened, made, entered in the catalog, dropped when no read can be on them any more.

Whoever reads takes the tables of a bucket with `reading`; a table that a rebuild has replaced stays until its last
read has ended.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.store.catalog import Catalog, Made, TableEntry
from gateway.store.lean_import import connecting
from gateway.store.mending import is_torn, mended
from gateway.store.schema import to_arrow

__all__ = ["Bucket", "Tables"]

_log = logging.getLogger("gateway.store")


@dataclass(slots=True)
class Bucket:
    """The tables of a bucket, the growing one last; `leftovers` wait to be dropped until no read is on them."""

    entries: tuple[TableEntry, ...] = ()
    handles: dict[str, Any] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    readers: Counter[str] = field(default_factory=Counter)

    @property
    def tables(self) -> list[tuple[TableEntry, Any]]:
        return [(entry, self.handles[entry.name]) for entry in self.entries]

    @contextmanager
    def reading(self) -> Iterator[list[tuple[TableEntry, Any]]]:
        """The tables as they are now; none of them is dropped meanwhile."""
        tables = self.tables
        names = [entry.name for entry, _ in tables]
        self.readers.update(names)
        try:
            yield tables
        finally:
            self.readers.subtract(names)


class Tables:
    """LanceDB's tables in `folder`, and the file that names them. Errors are LanceDB's own, OSError or ValueError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.catalog = Catalog(folder / "tables.json")
        self.mended: list[str] = []  # tables that were damaged, by name
        self._database: Any = None
        self._place = (0, 0)  # device and number of the folder

    @property
    def is_open(self) -> bool:
        return self._database is not None

    def is_in_place(self) -> bool:
        """True if the folder is still the one that was opened. A file: call it in a thread."""
        try:
            found = (self._folder / "lance").stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._place

    async def open(self, buckets: int, first: Made) -> dict[int, Bucket]:
        """What is there, by bucket; `first`: how rows of a folder without a catalog are made."""
        lance = self._folder / "lance"
        await asyncio.to_thread(lance.mkdir, parents=True, exist_ok=True)
        self._place = await asyncio.to_thread(_place_of, lance)
        connect = await asyncio.to_thread(connecting, lance)
        self._database = await connect()
        try:
            names = (await self._database.list_tables()).tables
            await asyncio.to_thread(self.catalog.read, names, first)
            for name in set(names) - self.catalog.names:
                await self._database.drop_table(name)  # of a rebuild that did not come to its end
            return {bucket: await self._opened(bucket, names) for bucket in range(buckets)}
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

    async def create(self, entry: TableEntry) -> Any:
        """A new and empty table."""
        schema = (await asyncio.to_thread(to_arrow, [], entry.made.dimensions)).schema
        table = await self._database.create_table(entry.name, schema=schema, mode="overwrite")
        await table.set_unenforced_primary_key("id")
        return table

    async def enter(self, number: int, bucket: Bucket, entries: Sequence[TableEntry]) -> None:
        """From now on these tables hold the bucket; durable."""
        await asyncio.to_thread(self.catalog.put, number, entries)
        bucket.entries = tuple(entries)

    async def drop_leftovers(self, bucket: Bucket) -> None:
        """Drop tables that no read is on."""
        for name in [name for name in bucket.leftovers if not bucket.readers[name]]:
            await self._database.drop_table(name, ignore_missing=True)
            bucket.leftovers.remove(name)
            handle = bucket.handles.pop(name, None)
            if handle is not None:
                handle.close()

    async def _opened(self, number: int, names: Sequence[str]) -> Bucket:
        bucket = Bucket(self.catalog.tables(number))
        for entry in bucket.entries:
            handle = await self._opened_table(entry, names)
            if handle is not None:
                bucket.handles[entry.name] = handle
        lost = [entry for entry in bucket.entries if entry.name not in bucket.handles]
        if lost:
            await self.enter(number, bucket, [entry for entry in bucket.entries if entry not in lost])
        for table in bucket.handles.values():
            if "version" not in (await table.schema()).names:
                await table.add_columns({"version": "CAST(1 AS INT)"})
        return bucket

    async def _opened_table(self, entry: TableEntry, names: Sequence[str]) -> Any | None:
        """None if nothing can be read of a table that was settled; a growing one is begun anew then."""
        if entry.name in names:
            path = self._folder / "lance" / f"{entry.name}.lance"
            try:
                if not await asyncio.to_thread(is_torn, path):
                    return await self._database.open_table(entry.name)
                cause = "torn"
            except RuntimeError as error:
                cause = str(error)[:200]
            _log.error("table_damaged", extra={"table": entry.name, "cause": cause})
            self.mended.append(entry.name)
            aside = self._folder / "broken" / f"{entry.name}-{int(time.time())}"
            found = await mended(lambda: self._database.open_table(entry.name), path, aside, asyncio.to_thread)
            if found is not None:
                return found
        # a power cut can take a table that was just begun; the journal still has what was written to it
        return None if entry.is_settled else await self.create(entry)


def _place_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
