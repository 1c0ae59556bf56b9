"""The catalog: which LanceDB tables each bucket consists of, and the row format of each table.

A bucket has one growing (active) table, and before it the settled (sealed) ones: sorted by scope, never written again.
A rebuild merges the settled tables of a bucket into one. The catalog is a small file that is replaced atomically, so a
rebuild takes effect completely or not at all; tables that are missing from the catalog are leftovers.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.storage.folder import fsync, write_whole
from gateway.storage.rows import RowFormat

_log = logging.getLogger("gateway.store")

__all__ = ["Catalog", "TableEntry", "bucket_of", "number_of"]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table in the catalog. `rows`: count of a settled table when it was built; -1: unknown."""

    name: str
    row_format: RowFormat
    is_settled: bool = False
    rows: int = -1


class Catalog:
    """The catalog file. Call `read` before use; `put` is durable when it returns. Both block on files: use a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buckets: dict[int, tuple[TableEntry, ...]] = {}
        self._signature = (0, 0, 0)

    def read_again(self) -> bool:
        """Read the file if another process has replaced it. False if not. Raises OSError, or ValueError and the like
        for a damaged file."""
        try:
            status = self._path.stat()
        except FileNotFoundError:  # nothing was written yet
            return False
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if signature == self._signature:
            return False
        self._buckets, self._signature = _parse(self._path.read_bytes()), signature
        return True

    def expire(self) -> None:
        """Let `read_again` read the file, even if it has not changed: what was read could not be used."""
        self._signature = (0, 0, 0)

    def read(self, names: Sequence[str], first: RowFormat) -> bool:
        """Read the file. Without one: adopt the unnumbered tables among `names`, one per bucket, in the format `first`.
        Returns False if numbered tables exist without a readable file: a crash came before it was written, or it was
        lost, and the caller rebuilds it from the tables. Raises OSError."""
        if self._path.exists():
            try:
                self._buckets = _parse(self._path.read_bytes())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                _log.error("catalog_damaged", extra={"cause": type(error).__name__})
                self._path.replace(self._path.with_suffix(".broken"))
            else:
                return True
        for name in names:
            head, _, number = name.rpartition("_")
            if head == "memories" and number.isdigit():
                self._buckets[int(number)] = (TableEntry(name, first),)
        return not any(number_of(name) for name in names)

    def tables(self, bucket: int) -> tuple[TableEntry, ...]:
        """The tables of a bucket: settled ones first, the growing one last; empty if the bucket was never written."""
        return self._buckets.get(bucket, ())

    @property
    def names(self) -> set[str]:
        return {entry.name for entries in self._buckets.values() for entry in entries}

    def put(self, bucket: int, entries: Sequence[TableEntry]) -> None:
        """Replace the list of tables of a bucket. Raises OSError."""
        self.put_all({bucket: entries})

    def put_all(self, buckets: Mapping[int, Sequence[TableEntry]]) -> None:
        """Replace the lists of tables of several buckets, all or none. Raises OSError."""
        changed = self._buckets | {bucket: tuple(entries) for bucket, entries in buckets.items()}
        body = {str(number): [_encode(entry) for entry in entries] for number, entries in sorted(changed.items())}
        write_whole(self._path, orjson.dumps({"buckets": body}, option=orjson.OPT_INDENT_2))
        fsync(self._path.parent)
        self._buckets = changed

    def new_name(self, bucket: int, taken: Iterable[TableEntry] = ()) -> str:
        """An unused name for a table of the bucket."""
        entries = (*self.tables(bucket), *taken)
        return f"memories_{bucket:03d}_{max((number_of(entry.name) for entry in entries), default=0) + 1}"


def _encode(entry: TableEntry) -> dict[str, Any]:
    fields = {"name": entry.name, "made": asdict(entry.row_format)}
    return {**fields, "is_settled": entry.is_settled, "rows": entry.rows}


def _parse(content: bytes) -> dict[int, tuple[TableEntry, ...]]:
    """Parse the file. Raises ValueError, KeyError, TypeError or AttributeError."""
    return {
        int(bucket): tuple(
            TableEntry(entry["name"], RowFormat(**entry["made"]), entry["is_settled"], entry.get("rows", -1))
            for entry in entries
        )
        for bucket, entries in orjson.loads(content)["buckets"].items()
    }


def bucket_of(name: str) -> int:
    """The bucket of a table by the table's name; -1 if it is not a table of memories."""
    parts = name.split("_")
    return int(parts[1]) if len(parts) > 1 and parts[0] == "memories" and parts[1].isdigit() else -1


def number_of(name: str) -> int:
    """The number of a table within its bucket; later tables have larger numbers."""
    parts = name.split("_")
    return int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else 0
