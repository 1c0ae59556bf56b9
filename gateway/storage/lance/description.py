"""What the catalog says of tables, read from the tables themselves: for tables that were copied."""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.storage.lance.catalog import Entries, TableEntry
from gateway.storage.lance.conditions import guarded
from gateway.storage.lance.connection import connecting
from gateway.storage.lance.object_place import ObjectStorage

__all__ = ["as_in_folder", "describe_tables"]

_READ_TIMEOUT: Final = 300.0  # seconds; the times of all rows of a table


async def describe_tables(place: Path | ObjectStorage, buckets: Mapping[int, Entries]) -> dict[int, Entries]:
    """The lists of tables, with the rows, version and times of each. Raises StorageError if one cannot be read."""
    address, options = (place, None) if isinstance(place, Path) else (place.uri, place.options)
    connect = await asyncio.to_thread(connecting, address, options)
    database = await guarded(connect())
    try:
        return {
            number: tuple([await guarded(_describe(database, entry), _READ_TIMEOUT) for entry in entries])
            for number, entries in buckets.items()
        }
    finally:
        database.close()


def as_in_folder(entries: Iterable[TableEntry]) -> Entries:
    """Entries for the catalog of a folder, which has the rows of settled tables only."""
    return tuple(
        TableEntry(entry.name, entry.row_format, entry.is_settled, entry.rows if entry.is_settled else -1)
        for entry in entries
    )


async def _describe(database: Any, entry: TableEntry) -> TableEntry:
    table = await database.open_table(entry.name)
    try:
        rows, version = await table.count_rows(), int(await table.version())
        oldest = await _earliest(table, "created_at", None)
        # nothing in a settled table is a change that a rebuild would take out
        changed_at = math.inf if entry.is_settled else await _earliest(table, "updated_at", "version > 1")
    finally:
        table.close()
    return replace(entry, rows=rows, version=version, oldest=oldest, changed_at=changed_at)


async def _earliest(table: Any, column: str, condition: str | None) -> float:
    """The earliest time in a column of some rows; infinite if there are none."""
    import pyarrow.compute as pc  # noqa: PLC0415 — heavy

    query = table.query() if condition is None else table.query().where(condition)
    arrow = await query.select([column]).to_arrow()
    earliest = await asyncio.to_thread(pc.min, arrow.column(column))
    return float(earliest.as_py().timestamp()) if earliest.is_valid else math.inf
