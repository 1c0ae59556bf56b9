"""Usage ledger: requests, tokens and cost by hour, key, user, model and upstream. SQLite, one file, one thread.

Counts gather in RAM and are written every few seconds; a killed process loses its unwritten counts.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.storage.errors import StorageError
from gateway.storage.sqlite.database import Database
from gateway.storage.values import DIMENSIONS, MOST, UsageRow

__all__ = ["SqliteLedger"]

_TABLE = """
CREATE TABLE IF NOT EXISTS used (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, model TEXT NOT NULL,
    upstream TEXT NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, estimated_tokens INTEGER NOT NULL, cost REAL NOT NULL, priced INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, key, user, model, upstream)
) WITHOUT ROWID;
"""
_HOUR = 3600
_FLUSH_INTERVAL = 5.0  # seconds
_MAX_GATHERED = 50_000  # rows in RAM before a flush; further new ones are not counted

_log = logging.getLogger("gateway.usage")


_COUNTS = tuple(field.name for field in fields(UsageRow))
_ADD_COUNTS = ", ".join(f"{name}=used.{name}+excluded.{name}" for name in _COUNTS)
_LATER_COLUMNS = ("cost REAL NOT NULL DEFAULT 0", "priced INTEGER NOT NULL DEFAULT 0")  # absent in the oldest files


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    present = {row[1] for row in connection.execute("PRAGMA table_info(used)")}
    for column in _LATER_COLUMNS:
        if column.split()[0] not in present:
            connection.execute(f"ALTER TABLE used ADD COLUMN {column}")


_MIGRATIONS = (_create,)


class SqliteLedger:
    """Counts usage. Call `open` before the first request; methods that read the file raise StorageError.

    With `is_owner` false, another process creates the file.
    """

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        self._database = Database(path, "usage", _MIGRATIONS, is_owner=is_owner)
        self._gathered: dict[tuple[int, str, str, str, str, str], UsageRow] = {}
        self._worker = RepeatingWorker("usage", self._work, _log, "usage_fault", pauses=Backoff(_FLUSH_INTERVAL))

    async def open(self) -> None:
        """Open the file and start the flush task, which retries opening until it works. Raises StorageError."""
        self._worker.start()
        await self._database.open()

    async def close(self) -> None:
        if await self._worker.stop():
            await self.flush()
        await self._database.close()

    def note(self, used: UsageRow, *, tenant: str, key: str, user: str, model: str, upstream: str) -> None:
        """Add the usage of one request, in RAM only."""
        key_columns = (int(time.time()) // _HOUR * _HOUR, tenant, key, user, model, upstream)
        gathered = self._gathered.get(key_columns)
        if gathered is None:
            if len(self._gathered) >= _MAX_GATHERED:
                return
            gathered = self._gathered[key_columns] = UsageRow()
        gathered += used

    async def flush(self) -> None:
        """Write the gathered counts. Raises StorageError, and then keeps them for the next flush."""
        gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        rows = [(*key_columns, *(getattr(used, name) for name in _COUNTS)) for key_columns, used in gathered.items()]
        placeholders = ",".join("?" * len(rows[0]))
        try:
            await self._database.write(
                f"INSERT INTO used VALUES ({placeholders}) ON CONFLICT DO UPDATE SET {_ADD_COUNTS}",  # noqa: S608 — ours
                rows,
            )
        except BaseException:  # also for a cancelled caller: no count is lost
            for key_columns, used in gathered.items():
                self._gathered.setdefault(key_columns, UsageRow()).__iadd__(used)
            raise

    async def read(
        self, by: Sequence[str], *, tenant: str | None, since: float, until: float, only: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Sum usage by each combination of some of DIMENSIONS, between two moments (seconds since 1970), the largest
        first. `only`: required values of dimensions. Raises StorageError; ValueError for an unknown dimension."""
        unknown = {*by, *only} - set(DIMENSIONS)
        if unknown:
            raise ValueError(f"there is no {min(unknown)!r} to ask by; there are {', '.join(DIMENSIONS)}")
        await self.flush()
        conditions, values = ["hour>=?", "hour<?"], [since - since % _HOUR, until]
        filters = dict(only) if tenant is None else {"tenant": tenant, **only}
        conditions += [f"{name}=?" for name in filters]
        sums = ", ".join(f"sum({name})" for name in _COUNTS)
        names = ", ".join(by)
        statement = (
            f"SELECT {names + ', ' if by else ''}{sums} FROM used WHERE {' AND '.join(conditions)} "  # noqa: S608 — ours
            f"{'GROUP BY ' + names if by else ''} ORDER BY sum(prompt_tokens)+sum(completion_tokens) DESC LIMIT {MOST}"
        )
        rows = await self._database.read(statement, (*values, *filters.values()))
        return [dict(zip((*by, *_COUNTS), row, strict=True)) for row in rows if row[-1] is not None]

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Anonymise the usage of a user (None: of all users), and erase the name from the disk. Does nothing if the
        ledger is not open. Raises StorageError."""
        if not self._database.is_open:
            return
        await self.flush()
        filters = {name: value for name, value in (("tenant", tenant), ("user", user)) if value is not None}
        condition, values = " AND ".join([f"{name}=?" for name in filters] or ["1"]), tuple(filters.values())
        # sum before inserting: the rows of several users become one
        sums = ", ".join(f"sum({name})" for name in _COUNTS)
        await self._database.write(
            f"INSERT INTO used SELECT hour, tenant, key, '', model, upstream, {sums} FROM used "  # noqa: S608 — ours
            f"WHERE {condition} AND user!='' GROUP BY hour, tenant, key, model, upstream "
            f"ON CONFLICT DO UPDATE SET {_ADD_COUNTS}",
            [values],
        )
        await self._database.write(f"DELETE FROM used WHERE {condition} AND user!=''", [values])  # noqa: S608 — ours
        await self._database.scrub()

    async def _work(self) -> None:
        await asyncio.sleep(_FLUSH_INTERVAL)
        try:
            await self._database.open()
            await self.flush()
        except StorageError as error:
            _log.warning("usage_write_failed", extra={"cause": str(error)})
