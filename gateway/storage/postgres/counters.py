"""Counters that all gateways of a cluster add to, as for limits of use. Each ends at a time of its own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements

__all__ = ["Addend", "PostgresCounters"]

_ADD: Final = """
INSERT INTO counters AS c (name, n, until)
SELECT a.name, a.n, a.until FROM unnest(?::text[], ?::float8[], ?::float8[]) AS a (name, n, until)
ORDER BY a.name ON CONFLICT (name) DO UPDATE
SET n=CASE WHEN c.until<? THEN excluded.n ELSE c.n + excluded.n END, until=greatest(c.until, excluded.until)
RETURNING c.name, c.n
"""
_SWEEP_INTERVAL: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Addend:
    """What is added to a counter, which begins at 0 again after the moment `until` (seconds since 1970)."""

    n: float
    until: float


class PostgresCounters:
    """Counters by name; a name has 600 characters at most. The caller gathers its additions for a second, say, and adds
    them in one call."""

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "counters")
        self._swept_at = -_SWEEP_INTERVAL

    async def open(self) -> None:
        """Raises StorageError."""
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def add(self, addends: Mapping[str, Addend]) -> dict[str, float]:
        """Add to counters, all or none, and return their new values, which include what other gateways have added.
        Raises StorageError; whether anything was added is then not known."""
        if not addends:
            return {}
        names = sorted(addends)
        numbers, ends = [float(addends[name].n) for name in names], [float(addends[name].until) for name in names]
        now = time.time()

        def work(statements: PostgresStatements) -> list[tuple[str, float]]:
            return statements.execute(_ADD, (names, numbers, ends, now))

        rows = await self._database.run(lambda: self._database.transaction(work))
        if time.monotonic() - self._swept_at >= _SWEEP_INTERVAL:
            self._swept_at = time.monotonic()
            await self._database.write("DELETE FROM counters WHERE until<?", [(now,)])
        return dict(rows)

    async def read(self, prefix: str) -> dict[str, float]:
        """The counters whose names begin with `prefix`, without those that have ended. Raises StorageError."""
        rows = await self._database.read(
            "SELECT name, n FROM counters WHERE starts_with(name, ?) AND until>=?", (prefix, time.time())
        )
        return dict(rows)

    async def drop(self, prefix: str) -> None:
        """Erase the counters whose names begin with `prefix`. Raises StorageError."""
        await self._database.write("DELETE FROM counters WHERE starts_with(name, ?)", [(prefix,)])
