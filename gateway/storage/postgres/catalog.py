"""The catalog in PostgreSQL: which tables each bucket consists of, for all gateways of a cluster.

A bucket's list is one row. Its owner replaces it in a transaction that checks the epoch of its lease, so that what a
gateway built after it lost the lease never becomes part of a memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson

from gateway.storage.errors import LeaseLost, StorageError
from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements

__all__ = ["NamedTable", "PostgresCatalog"]

_CHECK: Final = "SELECT check_leases(?::int[], ?::bigint[])"
_PUT: Final = "INSERT INTO catalog VALUES (?, ?) ON CONFLICT (bucket) DO UPDATE SET tables=excluded.tables"


class NamedTable(Protocol):
    """An entry of the catalog, as far as it is looked at here."""

    @property
    def name(self) -> str: ...


_Entry = TypeVar("_Entry", bound=NamedTable)


class PostgresCatalog(Generic[_Entry]):
    """The lists of tables, as this gateway last read or wrote them. `encode` and `decode` convert an entry to JSON and
    back; `epoch_of`: the epoch of this gateway's lease on a bucket, 0 without one."""

    def __init__(
        self,
        url: str,
        epoch_of: Callable[[int], int],
        encode: Callable[[_Entry], dict[str, Any]],
        decode: Callable[[Mapping[str, Any]], _Entry],
    ) -> None:
        self._database = PostgresDatabase(url, "store")
        self._epoch_of = epoch_of
        self._encode = encode
        self._decode = decode
        self._known: dict[int, tuple[_Entry, ...]] = {}

    async def open(self) -> None:
        """Connect, and read all lists. Raises StorageError."""
        if await self._database.open():
            await self.refresh()

    async def close(self) -> None:
        await self._database.close()

    def tables(self, bucket: int) -> tuple[_Entry, ...]:
        """The tables of a bucket, as last read: settled ones first, the growing one last."""
        return self._known.get(bucket, ())

    @property
    def names(self) -> set[str]:
        """The names of all tables, as last read."""
        return {entry.name for entries in self._known.values() for entry in entries}

    def owns(self, bucket: int) -> bool:
        """True if this gateway may change the bucket now. False when in doubt."""
        return self.epoch(bucket) > 0

    def epoch(self, bucket: int) -> int:
        """The epoch of this gateway's lease on the bucket; 0 without one."""
        return self._epoch_of(bucket)

    def note(self, bucket: int, tables: bytes | None) -> None:
        """Take a list that was read together with the tail of a scope. Raises StorageError if it cannot be parsed."""
        self._known[bucket] = self._parse(tables) if tables is not None else ()

    async def refresh(self, bucket: int | None = None) -> None:
        """Read the list of a bucket again, or those of all buckets. Raises StorageError."""
        if bucket is None:
            rows = await self._database.read("SELECT bucket, tables FROM catalog")
            self._known = {number: self._parse(tables) for number, tables in rows}
            return
        rows = await self._database.read("SELECT tables FROM catalog WHERE bucket=?", (bucket,))
        self.note(bucket, rows[0][0] if rows else None)

    async def switch(self, buckets: Mapping[int, Sequence[_Entry]]) -> None:
        """Replace the lists of these buckets, all or none; durable when it returns. Raises LeaseLost, and changes
        nothing then, if another gateway owns one of them; StorageError."""
        numbers = sorted(buckets)
        epochs = [self.epoch(number) for number in numbers]
        if not all(epochs):
            raise LeaseLost("store", "another gateway owns these memories now")
        rows = [(number, orjson.dumps([self._encode(entry) for entry in buckets[number]])) for number in numbers]

        def work(statements: PostgresStatements) -> None:
            statements.execute(_CHECK, (numbers, epochs))
            statements.executemany(_PUT, rows)

        await self._database.run(lambda: self._database.transaction(work))
        self._known |= {number: tuple(entries) for number, entries in buckets.items()}

    def _parse(self, tables: bytes) -> tuple[_Entry, ...]:
        try:
            return tuple(self._decode(fields) for fields in orjson.loads(tables))
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError("store", f"the catalog cannot be parsed ({type(error).__name__})") from error
