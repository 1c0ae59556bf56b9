"""What was used: requests, tokens and money by hour, key, user, model and upstream. SQLite, one file, one thread.

Counts gather in RAM and are written every few seconds: what a killed process had not written yet is not counted.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gateway.store.sqlite_file import SqliteFile

__all__ = ["DIMENSIONS", "MOST", "Ledger", "LedgerFailed", "Used"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS used (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, model TEXT NOT NULL,
    upstream TEXT NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, estimated_tokens INTEGER NOT NULL, cost REAL NOT NULL, priced INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, key, user, model, upstream)
) WITHOUT ROWID;
"""
_HOUR = 3600
_FLUSH_EVERY = 5.0  # seconds
_MOST = 50_000  # rows that gather before they are written

MOST = 10_000
"""Rows that one question gets; the largest ones."""

DIMENSIONS = ("hour", "key", "user", "model", "upstream")
"""By what use can be asked for."""

_log = logging.getLogger("gateway.usage")


class LedgerFailed(Exception):
    """Nothing was written or read: the disk is full, or the file is broken."""


@dataclass(slots=True)
class Used:
    """Counts of some requests. `cached_tokens` are part of `prompt_tokens`; `estimated_tokens` are those that no
    upstream reported, and part of the other two. `cost`: US dollars of those requests that have a price (`priced`)."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: int = 0
    cost: float = 0.0
    priced: int = 0

    def __iadd__(self, other: "Used") -> "Used":
        for one in _COUNTS:
            setattr(self, one, getattr(self, one) + getattr(other, one))
        return self


_COUNTS = tuple(one.name for one in fields(Used))
_ADDING = ", ".join(f"{name}=used.{name}+excluded.{name}" for name in _COUNTS)
_ADDED = ("cost REAL NOT NULL DEFAULT 0", "priced INTEGER NOT NULL DEFAULT 0")  # columns that came later


class Ledger:
    """`open` before the first request; raises LedgerFailed where something is asked for."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "usage", LedgerFailed)
        self._gathered: dict[tuple[int, str, str, str, str, str], Used] = {}
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises LedgerFailed; it is tried again until it can be opened."""
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="usage")
        await self._open()

    async def _open(self) -> None:
        if not self._file.is_open:
            await self._file.open()
            await self._file.run(self._widen)

    def _widen(self) -> None:
        has = {row[1] for row in self._file.connection.execute("PRAGMA table_info(used)")}
        for column in _ADDED:
            if column.split()[0] not in has:
                self._file.connection.execute(f"ALTER TABLE used ADD COLUMN {column}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)
            await self.flush()
        await self._file.close()

    def note(self, used: Used, *, tenant: str, key: str, user: str, model: str, upstream: str) -> None:
        """Add what one request used. Costs nothing now."""
        place = (int(time.time()) // _HOUR * _HOUR, tenant, key, user, model, upstream)
        if place in self._gathered or len(self._gathered) < _MOST:
            self._gathered.setdefault(place, Used()).__iadd__(used)

    async def flush(self) -> None:
        """Write what gathered."""
        gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        rows = [(*place, *(getattr(used, name) for name in _COUNTS)) for place, used in gathered.items()]
        places = ",".join("?" * len(rows[0]))
        try:
            await self._file.write(f"INSERT INTO used VALUES ({places}) ON CONFLICT DO UPDATE SET {_ADDING}", rows)  # noqa: S608 — ours
        except BaseException:  # a caller who leaves takes nothing along
            for place, used in gathered.items():
                self._gathered.setdefault(place, Used()).__iadd__(used)
            raise

    async def read(
        self, by: Sequence[str], *, tenant: str | None, since: float, until: float, only: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """The sums for each combination of some of DIMENSIONS, between two moments (seconds since 1970), the largest
        first. `only`: dimensions that must have a value. Raises LedgerFailed; ValueError for an unknown dimension."""
        unknown = {*by, *only} - set(DIMENSIONS)
        if unknown:
            raise ValueError(f"there is no {min(unknown)!r} to ask by; there are {', '.join(DIMENSIONS)}")
        await self.flush()
        conditions, values = ["hour>=?", "hour<?"], [since - since % _HOUR, until]
        narrowed = dict(only) if tenant is None else {"tenant": tenant, **only}
        conditions += [f"{name}=?" for name in narrowed]
        sums = ", ".join(f"sum({name})" for name in _COUNTS)
        names = ", ".join(by)
        statement = (
            f"SELECT {names + ', ' if by else ''}{sums} FROM used WHERE {' AND '.join(conditions)} "  # noqa: S608 — ours
            f"{'GROUP BY ' + names if by else ''} ORDER BY sum(prompt_tokens)+sum(completion_tokens) DESC LIMIT {MOST}"
        )
        rows = await self._file.run(
            lambda: self._file.connection.execute(statement, (*values, *narrowed.values())).fetchall()
        )
        return [dict(zip((*by, *_COUNTS), row, strict=True)) for row in rows if row[-1] is not None]

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Count what a user used as nobody's, and leave no name on the disk (None: of all). Without a ledger that
        works: nothing. Raises LedgerFailed."""
        if not self._file.is_open:
            return
        await self.flush()
        named = {name: value for name, value in (("tenant", tenant), ("user", user)) if value is not None}
        whose, values = " AND ".join([f"{name}=?" for name in named] or ["1"]), tuple(named.values())
        # summed first: the rows of several users become one
        sums = ", ".join(f"sum({name})" for name in _COUNTS)
        await self._file.write(
            f"INSERT INTO used SELECT hour, tenant, key, '', model, upstream, {sums} FROM used "  # noqa: S608 — ours
            f"WHERE {whose} AND user!='' GROUP BY hour, tenant, key, model, upstream "
            f"ON CONFLICT DO UPDATE SET {_ADDING}",
            [values],
        )
        await self._file.write(f"DELETE FROM used WHERE {whose} AND user!=''", [values])  # noqa: S608 — ours
        await self._file.scrub()

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            try:
                await self._open()
                await self.flush()
            except LedgerFailed as error:
                _log.warning("usage_not_written", extra={"cause": str(error)})
