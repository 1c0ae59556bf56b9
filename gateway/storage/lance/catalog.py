"""The catalog: which LanceDB tables each bucket consists of, and what is known of each table without opening it.

A bucket has one growing (active) table, and before it the settled (sealed) ones: sorted by scope, never written again.
A rebuild merges the settled tables of a bucket into one. The lists of tables are replaced atomically, so a rebuild
takes effect completely or not at all; tables that are missing from the catalog are leftovers.
"""

import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from gateway.storage.rows import RowFormat

__all__ = ["Catalog", "Entries", "TableEntry", "bucket_of", "decode", "encode", "new_name", "number_of"]

_RANDOM_BYTES = 4


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table in the catalog. What is unknown is -1 or 0; in a folder that is all but the rows of settled tables.

    `rows`: count of its rows. `version`: LanceDB's version of the table that has them. `oldest`: when its oldest memory
    was created. `changed_at`: the earliest change in it, which is a row with a version above 1. Both are seconds since
    1970, and infinite if there is no such row.
    """

    name: str
    row_format: RowFormat
    is_settled: bool = False
    rows: int = -1
    version: int = 0
    oldest: float = 0.0
    changed_at: float = 0.0


Entries = tuple[TableEntry, ...]
"""The tables of a bucket: settled ones first, the growing one last; empty if the bucket was never written."""


class Catalog(Protocol):
    """The tables of all buckets, as this process last read or wrote them. Only the owner of a bucket may change its
    list. Methods that read or write raise StorageError or OSError."""

    def tables(self, bucket: int) -> Entries:
        """The tables of a bucket, as last read."""

    @property
    def names(self) -> set[str]:
        """The names of all tables, as last read."""

    def owns(self, bucket: int) -> bool:
        """True if this process may change the bucket now. False when in doubt."""

    def epoch(self, bucket: int) -> int:
        """A number that is another one each time that this process comes to own the bucket; 0 while it does not."""

    async def refresh(self, bucket: int | None = None) -> None:
        """Read the list of a bucket again, or those of all buckets."""

    async def switch(self, buckets: Mapping[int, Entries]) -> None:
        """Replace the lists of these buckets, all or none; durable when it returns. Raises StorageError if this process
        does not own one of them (any more): then nothing was changed."""


def encode(entry: TableEntry) -> dict[str, Any]:
    """An entry as JSON; what is unknown is left out, and infinite times are null."""
    fields: dict[str, Any] = {"name": entry.name, "made": asdict(entry.row_format)}
    fields |= {"is_settled": entry.is_settled, "rows": entry.rows}
    if entry.version:
        fields["version"] = entry.version
    for name, moment in (("oldest", entry.oldest), ("changed_at", entry.changed_at)):
        if moment:
            fields[name] = None if math.isinf(moment) else moment
    return fields


def decode(fields: Mapping[str, Any]) -> TableEntry:
    """Parse an entry. Raises KeyError, TypeError or ValueError."""
    return TableEntry(
        fields["name"],
        RowFormat(**fields["made"]),
        fields["is_settled"],
        fields.get("rows", -1),
        fields.get("version", 0),
        _moment(fields.get("oldest", 0.0)),
        _moment(fields.get("changed_at", 0.0)),
    )


def _moment(value: float | None) -> float:
    return math.inf if value is None else float(value)


def new_name(bucket: int, entries: Iterable[TableEntry]) -> str:
    """A name for a new table of the bucket, numbered after `entries`. Its random part lets no name be used twice: a
    writer that was paused may still write to a table that was dropped meanwhile."""
    number = max((number_of(entry.name) for entry in entries), default=0) + 1
    return f"memories_{bucket:03d}_{number}_{secrets.token_hex(_RANDOM_BYTES)}"


def bucket_of(name: str) -> int:
    """The bucket of a table by the table's name; -1 if it is not a table of memories."""
    parts = name.split("_")
    return int(parts[1]) if len(parts) > 1 and parts[0] == "memories" and parts[1].isdigit() else -1


def number_of(name: str) -> int:
    """The number of a table within its bucket; later tables have larger numbers."""
    parts = name.split("_")
    return int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else 0
