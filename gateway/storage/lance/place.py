"""Places of LanceDB's tables: what a data folder and object storage do differently."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import Catalog, Entries, TableEntry
from gateway.storage.rows import RowFormat

__all__ = ["Bucket", "Home", "MemoryMeta", "Place"]


@dataclass(slots=True)
class Bucket:
    """The tables of a bucket, the growing one last.

    `handles`: opened tables by name; with a lazy place, those that were read, each with its version in `versions`.
    `pinned`: handles that read one version only, and cannot be written with. `leftovers`: replaced tables with their
    time to be dropped (of `time.monotonic`), which happens when no read uses them. `is_changed`: it was written since
    it was maintained. `epoch`: that of the catalog for which `entries` hold; 0 if they were read without owning it.
    """

    entries: Entries = ()
    handles: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    leftovers: dict[str, float] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)
    is_changed: bool = False
    epoch: int = 0
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def tables(self) -> list[tuple[TableEntry, Any]]:
        """The tables with their handles. Raises StorageError if one of them has to be opened again."""
        try:
            return [(entry, self.handles[entry.name]) for entry in self.entries]
        except KeyError as error:
            raise StorageError("store", f"the table {error.args[0]} is being opened again") from error

    @property
    def rows(self) -> int:
        """The number of rows by the catalog, where each version counts as one; -1 if it is not known."""
        return -1 if any(entry.rows < 0 for entry in self.entries) else sum(entry.rows for entry in self.entries)

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


class Place(Protocol):
    """Where the tables are. Errors are LanceDB's own, OSError or ValueError.

    `is_lazy`: tables are opened when they are first read, and the catalog has the version and the counts of each: each
    request to the place takes time and costs money. `read_timeout` and `write_timeout`: seconds that one operation of
    LanceDB may take; None: as long as it needs.
    """

    @property
    def is_lazy(self) -> bool: ...

    @property
    def read_timeout(self) -> float | None: ...

    @property
    def write_timeout(self) -> float | None: ...

    @property
    def repaired(self) -> list[str]:
        """Names of tables that were damaged at the start."""

    async def connect(self) -> Any:
        """Import LanceDB, and connect to the database."""

    async def open(self, database: Any, buckets: int, first: RowFormat) -> dict[int, Bucket]:
        """Read the catalog, and open what must be open at the start. `first`: the row format of a folder without a
        catalog."""

    async def require(self) -> None:
        """Raise StorageError if the place is not the one that was opened."""

    async def sync(self, since: float) -> None:
        """Make everything durable that was written since a moment."""

    async def probe(self) -> None:
        """Check that the place can be written now. Raises StorageError."""

    async def mark_whole(self, name: str, rows: int) -> None:
        """Note at a table that it is complete with `rows` rows, for a recovery without a catalog."""


class MemoryMeta(Protocol):
    """What was fixed when a memory was created: the number of buckets, and the format of rows before the first
    rebuild.

    `has_plain_ids`: some ids may not begin with the digits of their scope (see `memory_id`), because an earlier version
    gave them, or another installation; memories with such an id are looked for in all buckets.
    """

    @property
    def buckets(self) -> int: ...

    @property
    def embedder(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def has_plain_ids(self) -> bool: ...

    async def note_plain_ids(self) -> None:
        """Note, durably and for all processes, that the memory has such ids from now on. Raises StorageError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where a memory is: its place, its catalog, and what was fixed when it was created. `compact_fragments`: the
    number of fragments of a growing table from which on it is compacted."""

    meta: MemoryMeta
    place: Place
    catalog: Catalog
    compact_fragments: int
