"""The two ends of a move: what a data folder and a cluster have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.storage.lance.catalog import Entries
from gateway.storage.move_mark import MoveMark
from gateway.storage.moved_tables import MovedRows

__all__ = ["MoveEnd", "MovedMemory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedMemory:
    """What was fixed when the memory was created (see `MemoryMeta`), and its tables by bucket, with what is known of
    each. `has_plain_ids` is as the ids are."""

    buckets: int
    embedder: str
    dimensions: int
    has_plain_ids: bool
    tables: Mapping[int, Entries]

    @property
    def names(self) -> set[str]:
        """The names of the tables."""
        return {entry.name for entries in self.tables.values() for entry in entries}

    def rows_by_bucket(self) -> dict[int, int]:
        """The numbers of rows, where each version counts as one."""
        return {number: sum(entry.rows for entry in entries) for number, entries in self.tables.items() if entries}


class MoveEnd(Protocol):
    """A place that a memory is moved from or to. Methods raise StorageError, FolderRefused or ConfigError."""

    @property
    def place(self) -> str:
        """Its address for people."""

    @property
    def mark_place(self) -> str:
        """What to delete to use the memory in spite of its move."""

    @property
    def rows(self) -> MovedRows: ...

    async def lock(self) -> None:
        """Let no gateway start here until `close`, and read the mark. Called first, at the source."""

    async def inspect(self) -> MoveMark | None:
        """The mark of an earlier move; changes nothing."""

    async def load(self) -> MovedMemory:
        """Check the memory as a gateway does at its start, and describe it. Called at the source."""

    async def require_unchanged(self) -> None:
        """Raise an error if a gateway may have used the source since it was locked."""

    async def require_empty(self) -> None:
        """Raise an error if there is something at the target, or it cannot be used; changes nothing. What an earlier
        try has left does not count if the mark says so."""

    async def begin(self, mark: MoveMark, memory: MovedMemory) -> None:
        """Mark the target as incomplete, and prepare it for the rows of a memory."""

    async def describe(self, memory: MovedMemory) -> MovedMemory:
        """The same memory, as its copied tables are at the target."""

    async def enter(self, memory: MovedMemory) -> None:
        """Let the target's catalog name the tables."""

    async def mark(self, mark: MoveMark) -> None:
        """Replace the mark, durably."""

    async def unmark(self) -> None:
        """Remove the mark, durably."""

    async def identities(self) -> bytes | None:
        """The document with the identities that keys have used."""

    async def put_identities(self, content: bytes) -> None: ...

    async def close(self) -> None: ...
