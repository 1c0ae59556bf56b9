"""The SQL tables that a move copies, with the columns that both engines have."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["ENTRIES", "MOVED_TABLES", "MovedRows", "MovedTable", "RowBatch"]

RowBatch = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class MovedTable:
    """A table of a part of the storage. `batch`: rows that are read at once."""

    part: str
    name: str
    columns: tuple[str, ...]
    batch: int = 1_000


def _table(part: str, name: str, columns: str, batch: int = 1_000) -> MovedTable:
    return MovedTable(part, name, tuple(columns.split()), batch)


ENTRIES: Final = _table("journal", "entries", "seq id state tries due at payload", 500)
MOVED_TABLES: Final = (
    _table("registry", "scopes", "value tenant cube_id kind owner"),
    _table("registry", "items", "tenant kind id at value", 100),
    _table("registry", "files", "tenant id cube_id name size kind status error at content", 4),  # of up to 100 MiB
    _table("registry", "tasks", "tenant id user cube_id status seq at"),
    _table(
        "usage",
        "used",
        "hour tenant key user model upstream requests prompt_tokens cached_tokens completion_tokens estimated_tokens "
        "cost priced",
    ),
    _table("responses", "owners", "id tenant user upstream session at"),
    _table("counters", "counters", "name n expires"),
    _table("blocks", "blocks", "scope session turn at memories tokens text", 100),
    _table("learning", "messages", "seq scope session id tokens aside"),
    _table("learning", "conversations", "scope session due tries reason before"),
    _table("learning", "spent", "scope day tokens cost"),
    _table("learning", "places", "name value"),
    _table("journal", "claims", "fingerprint turn at scope"),
    ENTRIES,
)
"""In the order in which they are copied: what is not stored yet comes last."""


class MovedRows(Protocol):
    """The rows of these tables at one place, in the form of `MOVED_TABLES`. Every method raises StorageError."""

    async def count(self, table: MovedTable) -> int: ...

    def read(self, table: MovedTable) -> AsyncIterator[RowBatch]:
        """All rows, in batches."""

    async def write(self, table: MovedTable, rows: RowBatch) -> None:
        """Add rows to a table that had none before the move; all or none."""

    async def newest_seq(self) -> int:
        """The newest number that the journal has given, also to an entry that it no longer has."""

    async def continue_after(self, seq: int) -> None:
        """Let the journal give larger numbers only."""
