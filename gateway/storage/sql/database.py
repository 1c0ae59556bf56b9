"""What tables of both SQL engines ask of their database: SQLite in a file, or PostgreSQL.

Statements are in the part of SQL that both engines have in common, with `?` for values. So: conflicts name their
columns, reserved names are quoted (`"user"`), and the sum of integers is cast back to an integer.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

__all__ = ["MAX_KEY_TEXT", "SqlDatabase", "Statements"]

MAX_KEY_TEXT: Final = 200
"""Characters of a text of unlimited length in a key of PostgreSQL: a key in an index has 2 700 bytes at most."""
_T = TypeVar("_T")


class Statements(Protocol):
    """A connection within a transaction."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any: ...

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]], /) -> Any: ...


class SqlDatabase(Protocol):
    """A database whose connection belongs to one thread. Every method that reads or writes raises StorageError."""

    @property
    def is_open(self) -> bool: ...

    @property
    def max_text(self) -> int | None:
        """The number of characters that a text of unlimited length may have in a key; None: any."""

    async def open(self) -> bool:
        """Open it, with its tables. False if it was open already."""

    async def close(self) -> None: ...

    async def run(self, job: Callable[[], _T]) -> _T:
        """Run a function in the thread that owns the connection."""

    async def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    async def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute a statement for each row, all or none."""

    def transaction(self, work: Callable[[Any], _T]) -> _T:
        """Run `work` with the `Statements` of a transaction; called in the thread."""

    async def scrub(self) -> None:
        """Erase remains of deleted rows, as far as the engine can do that now."""
