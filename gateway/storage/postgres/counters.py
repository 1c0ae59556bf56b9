"""Counters that all gateways of a cluster add to, in PostgreSQL."""

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from gateway.storage.counters import CounterAmount
from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements

__all__ = ["PostgresCounters"]

_ADD: Final = """
INSERT INTO counters AS c (name, n, until)
SELECT a.name, a.n, a.until FROM unnest(?::text[], ?::float8[], ?::float8[]) AS a (name, n, until)
ORDER BY a.name ON CONFLICT (name) DO UPDATE
SET n=CASE WHEN c.until>? THEN c.n + excluded.n ELSE excluded.n END, until=excluded.until
RETURNING c.name, c.n, c.until
"""
_SWEEP_INTERVAL: Final = 60.0  # seconds


class PostgresCounters:
    """The implementation of `Counters` for a cluster. A name has 600 characters at most."""

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "counters")
        self._swept_at = -_SWEEP_INTERVAL

    async def open(self) -> None:
        """Raises StorageError."""
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def add(self, amounts: Mapping[str, CounterAmount], now: float) -> dict[str, CounterAmount]:
        """Add to the sums, and return the new ones, which include what other gateways have added. Raises StorageError;
        whether anything was added is then not known."""
        if not amounts:
            return {}
        names = sorted(amounts)
        numbers = [float(amounts[name].value) for name in names]
        ends = [float(amounts[name].expires) for name in names]

        def work(statements: PostgresStatements) -> list[tuple[Any, ...]]:
            return statements.execute(_ADD, (names, numbers, ends, now))

        rows = await self._database.run(lambda: self._database.transaction(work))
        if time.monotonic() - self._swept_at >= _SWEEP_INTERVAL:
            self._swept_at = time.monotonic()
            await self._database.write("DELETE FROM counters WHERE until<=?", [(now,)])
        return _parse(rows)

    async def read(self, names: Collection[str], now: float) -> dict[str, CounterAmount]:
        """Those of these sums that are not expired. Raises StorageError."""
        statement = "SELECT name, n, until FROM counters WHERE until>? AND name = ANY (?::text[])"
        return _parse(await self._database.read(statement, (now, list(names))))

    async def newest(self, limit: int, now: float) -> dict[str, CounterAmount]:
        """Up to `limit` sums that are not expired, those that expire last first. Raises StorageError."""
        statement = "SELECT name, n, until FROM counters WHERE until>? ORDER BY until DESC LIMIT ?"
        return _parse(await self._database.read(statement, (now, limit)))


def _parse(rows: list[tuple[Any, ...]]) -> dict[str, CounterAmount]:
    return {name: CounterAmount(value, expires) for name, value, expires in rows}
