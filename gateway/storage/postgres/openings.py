"""Conversations without an id of their own, by scope and opening, so that every gateway of a cluster knows them by one
name."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from gateway.storage.errors import StorageError
from gateway.storage.postgres.database import PostgresDatabase

__all__ = ["PostgresOpenings"]

_log = logging.getLogger("gateway.store")
_MAX_ALIKE: Final = 32  # conversations with one opening that are looked at
_MAX_PENDING: Final = 10_000
_MAX_AGE: Final = 86_400.0 * 7  # seconds
_SWEEP_INTERVAL: Final = 3_600.0
_PUT: Final = """
INSERT INTO openings AS o VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (scope, opening, session) DO UPDATE SET
    answer=CASE WHEN excluded.answer<>'' THEN excluded.answer ELSE o.answer END,
    is_continued=o.is_continued OR excluded.is_continued
"""
_LOAD: Final = """
SELECT session, at, answer, is_continued FROM openings WHERE scope=? AND opening=? ORDER BY at DESC LIMIT ?
"""


class PostgresOpenings:
    """The conversations in PostgreSQL: digests of openings and answers, never a text."""

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "openings")
        self._pending: deque[tuple[Any, ...]] = deque(maxlen=_MAX_PENDING)
        self._writing: asyncio.Task[None] | None = None
        self._swept_at = time.monotonic()

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)
        await self._database.close()

    async def load(self, scope: str, opening: str) -> Sequence[tuple[str, float, str, bool]]:
        """Name, start, digest of the first answer, and whether it was continued, of the newest conversations with an
        opening; the oldest first. Raises StorageError."""
        await self._database.open()
        rows = await self._database.read(_LOAD, (scope, opening, _MAX_ALIKE))
        return [(name, at, answer, is_continued) for name, at, answer, is_continued in reversed(rows)]

    def put(self, scope: str, opening: str, row: tuple[str, float, str, bool]) -> None:
        """Add or update a conversation, in the background."""
        self._pending.append((scope, opening, *row))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="openings")

    async def forget(self, scopes: Sequence[str]) -> None:
        """Erase the conversations of these scopes. Raises StorageError."""
        await self._database.open()
        await self._database.write("DELETE FROM openings WHERE scope=?", [(scope,) for scope in scopes])

    async def _write(self) -> None:
        try:
            await self._database.open()
            while self._pending:
                rows = [self._pending.popleft() for _ in range(len(self._pending))]
                await self._database.write(_PUT, rows)
            if time.monotonic() - self._swept_at >= _SWEEP_INTERVAL:
                self._swept_at = time.monotonic()
                await self._database.write("DELETE FROM openings WHERE at<?", [(time.time() - _MAX_AGE,)])
        except StorageError as error:  # the conversation goes on under one name in this process
            _log.warning("openings_write_failed", extra={"cause": str(error)})
