"""Answers that a client may ask for again, at any gateway of a cluster, for two minutes."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.storage.errors import StorageError
from gateway.storage.postgres.database import PostgresDatabase

__all__ = ["PostgresReplays"]

_log = logging.getLogger("gateway.store")
_MAX_AGE: Final = 120.0  # seconds
_MAX_PENDING: Final = 1_000
_TIMEOUT: Final = 0.5  # seconds that a chat waits for the table
_PUT: Final = """
INSERT INTO replays VALUES (?, ?, ?, ?) ON CONFLICT (fingerprint) DO UPDATE
SET conversation=excluded.conversation, at=excluded.at, answer=excluded.answer
"""
_Write = tuple[str, tuple[Any, ...]]


class PostgresReplays:
    """The table. A fault costs a second question to the model; it is logged, and never raised."""

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "replays")
        self._pending: deque[_Write] = deque(maxlen=_MAX_PENDING)
        self._writing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)
        await self._database.close()

    async def find(self, fingerprint: str) -> dict[str, Any] | None:
        """The answer to a request; None if there is none, or if it is too old."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._database.open()
                statement = "SELECT answer FROM replays WHERE fingerprint=? AND at>?"
                rows: Sequence[tuple[bytes]] = await self._database.read(
                    statement, (fingerprint, time.time() - _MAX_AGE)
                )
        except (StorageError, TimeoutError) as error:
            _log.warning("replays_read_failed", extra={"cause": str(error) or "timeout"})
            return None
        answer: dict[str, Any] | None = orjson.loads(rows[0][0]) if rows else None
        return answer

    def put(self, fingerprint: str, conversation: Sequence[str | None], answer: Mapping[str, Any]) -> None:
        """Keep an answer; it is written in the background."""
        self._write_soon(_PUT, (fingerprint, _name(conversation), time.time(), orjson.dumps(answer, default=dict)))

    def drop(self, fingerprint: str) -> None:
        """Drop an answer that was delivered."""
        self._write_soon("DELETE FROM replays WHERE fingerprint=?", (fingerprint,))

    def drop_conversation(self, conversation: Sequence[str | None]) -> None:
        """Drop the answers of a conversation that goes on."""
        self._write_soon("DELETE FROM replays WHERE conversation=?", (_name(conversation),))

    def clear(self) -> None:
        """Drop all answers, since memories were changed or deleted that they may be based on."""
        self._write_soon("DELETE FROM replays WHERE at>=?", (0.0,))

    def _write_soon(self, statement: str, values: tuple[Any, ...]) -> None:
        self._pending.append((statement, values))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="replays")

    async def _write(self) -> None:
        try:
            await self._database.open()
            while self._pending:
                statement, values = self._pending.popleft()
                await self._database.write(statement, [values])
            await self._database.write("DELETE FROM replays WHERE at<?", [(time.time() - _MAX_AGE,)])
        except StorageError as error:
            _log.warning("replays_write_failed", extra={"cause": str(error)})


def _name(conversation: Sequence[str | None]) -> str:
    return orjson.dumps(conversation).decode()
