"""Counters in a SQLite file, which several processes may open."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.storage.counters import CounterAmount
from gateway.storage.sqlite.database import Database

__all__ = ["MIGRATIONS", "SqliteCounters"]

_T = TypeVar("_T")
_TABLE = """
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, n REAL NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS counters_by_expiry ON counters (expires);
"""
MIGRATIONS = (_TABLE,)
"""The versions of the schema."""
_ADD = """
INSERT INTO counters (name, n, expires) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET
n = CASE WHEN counters.expires > ?4 THEN counters.n + excluded.n ELSE excluded.n END, expires = excluded.expires
RETURNING n, expires
"""
_CLEANING_INTERVAL = 60.0  # seconds between two deletions of expired counters
_BATCH = 500  # names in one statement


class SqliteCounters:
    """The local implementation of `Counters`. One of the processes that share the file is its owner."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        self._database = Database(path, "counters", MIGRATIONS, is_owner=is_owner)
        self._cleaned_at = 0.0

    async def open(self) -> None:
        """Open the file. Raises StorageError."""
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def add(self, amounts: Mapping[str, CounterAmount], now: float) -> dict[str, CounterAmount]:
        """Add to the sums, and return the new ones. Raises StorageError."""

        def work(connection: sqlite3.Connection) -> dict[str, CounterAmount]:
            if abs(now - self._cleaned_at) >= _CLEANING_INTERVAL:
                self._cleaned_at = now
                connection.execute("DELETE FROM counters WHERE expires <= ?", (now,)).close()
            return {
                name: CounterAmount(*connection.execute(_ADD, (name, amount.value, amount.expires, now)).fetchall()[0])
                for name, amount in amounts.items()
            }

        return await self._database.run(lambda: self._database.transaction(work))

    async def read(self, names: Collection[str], now: float) -> dict[str, CounterAmount]:
        """Those of these sums that are not expired. Raises StorageError."""
        sums: dict[str, CounterAmount] = {}
        for batch in _batches(list(names)):
            marks = ",".join("?" * len(batch))
            statement = f"SELECT name, n, expires FROM counters WHERE expires > ? AND name IN ({marks})"  # noqa: S608
            rows = await self._database.read(statement, (now, *batch))
            sums |= {name: CounterAmount(n, expires) for name, n, expires in rows}
        return sums

    async def newest(self, limit: int, now: float) -> dict[str, CounterAmount]:
        """Up to `limit` sums that are not expired, those that expire last first. Raises StorageError."""
        statement = "SELECT name, n, expires FROM counters WHERE expires > ? ORDER BY expires DESC LIMIT ?"
        rows = await self._database.read(statement, (now, limit))
        return {name: CounterAmount(n, expires) for name, n, expires in rows}


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(items), _BATCH):
        yield items[begin : begin + _BATCH]
