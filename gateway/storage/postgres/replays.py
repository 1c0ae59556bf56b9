"""Answers that a client may ask for again, at any gateway of a cluster, for two minutes.

A gateway claims a request before it asks the model, and renews the claim until it has the answer. The same request at
another gateway waits for that answer; if the first gateway ends without one, its claim runs out, and the other asks.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from gateway.storage.errors import StorageError
from gateway.storage.postgres.database import PostgresDatabase

__all__ = ["PostgresReplays"]

_log = logging.getLogger("gateway.store")
_MAX_AGE: Final = 120.0  # seconds
_MAX_PENDING: Final = 1_000
_TIMEOUT: Final = 0.5  # seconds that a chat waits for the table
_CLAIM_SECONDS: Final = 10.0
_RENEW_EVERY: Final = 3.0
_PATIENCE: Final = 600.0  # seconds that a request waits for another gateway at most
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_GRACE: Final = 3.0  # seconds in which gateways that wait for an answer fetch it, after it was delivered elsewhere
_CLAIM: Final = """
INSERT INTO running_chats AS r VALUES (?, ?, now_seconds() + ?, FALSE)
ON CONFLICT (fingerprint) DO UPDATE SET is_awaited=r.until>=now_seconds(),
    claim=CASE WHEN r.until<now_seconds() THEN excluded.claim ELSE r.claim END,
    until=CASE WHEN r.until<now_seconds() THEN excluded.until ELSE r.until END
WHERE r.until<now_seconds() OR NOT r.is_awaited RETURNING r.claim
"""
_RENEW: Final = "UPDATE running_chats SET until=now_seconds() + ? WHERE fingerprint=? AND claim=?"
_RELEASE: Final = "DELETE FROM running_chats WHERE fingerprint=? AND claim=?"
_FIND: Final = "SELECT answer FROM replays WHERE fingerprint=? AND at>?"
_PUT: Final = """
WITH ended AS (DELETE FROM running_chats WHERE fingerprint=? AND claim=? RETURNING is_awaited)
INSERT INTO replays (fingerprint, conversation, at, answer, is_awaited)
VALUES (?, ?, ?, ?, coalesce((SELECT is_awaited FROM ended), FALSE)) ON CONFLICT (fingerprint) DO UPDATE
SET conversation=excluded.conversation, at=excluded.at, answer=excluded.answer, is_awaited=excluded.is_awaited
"""
_DROP: Final = "DELETE FROM replays WHERE fingerprint=? AND NOT is_awaited"
_DROP_SOON: Final = "UPDATE replays SET at=least(at, ?) WHERE fingerprint=? AND is_awaited"
_Write = tuple[str, tuple[Any, ...]]


class PostgresReplays:
    """Answers and claims in PostgreSQL. A fault costs a second question to the model; it is logged, and never
    raised."""

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "replays")
        self._pending: deque[_Write] = deque(maxlen=_MAX_PENDING)
        self._writing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)
        await self._database.close()

    async def ask_once(
        self, fingerprint: str, conversation: Sequence[str | None], ask: Callable[[], Awaitable[dict[str, Any]]]
    ) -> tuple[dict[str, Any], bool]:
        """The answer to a request, and True if another gateway got it or has got it before; else `ask` gets it."""
        claim = secrets.token_hex(16)
        answer = await self._wait(fingerprint, claim)
        if answer is not None:
            return answer, True
        self._write_soon("DELETE FROM replays WHERE conversation=?", (_name(conversation),))  # it goes on
        try:
            async with self._renewed(fingerprint, claim):
                answer = await ask()
        except BaseException:
            self._write_soon(_RELEASE, (fingerprint, claim))
            raise
        content = orjson.dumps(answer, default=dict)
        self._write_soon(_PUT, (fingerprint, claim, fingerprint, _name(conversation), time.time(), content))
        return answer, False

    def drop(self, fingerprint: str) -> None:
        """Drop an answer that was delivered."""
        self._write_soon(_DROP, (fingerprint,))
        self._write_soon(_DROP_SOON, (time.time() - _MAX_AGE + _GRACE, fingerprint))

    def clear(self) -> None:
        """Drop all answers, since memories were changed or deleted that they may be based on."""
        self._write_soon("DELETE FROM replays WHERE at>=?", (0.0,))

    async def _wait(self, fingerprint: str, claim: str) -> dict[str, Any] | None:
        """Wait until another gateway has the answer. None: this one is to ask, and has claimed the request if it
        could."""
        deadline, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
        try:
            while not await self._claim(fingerprint, claim):
                if time.monotonic() > deadline:
                    return None
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            answer = await self._find(fingerprint)  # after the claim: an answer is there before its claim ends
        except (StorageError, TimeoutError) as error:
            _log.warning("replays_read_failed", extra={"cause": str(error) or "timeout"})
            return None
        if answer is not None:
            self._write_soon(_RELEASE, (fingerprint, claim))
        return answer

    async def _claim(self, fingerprint: str, claim: str) -> bool:
        """Claim a request. False if another gateway asks the model for it. Raises StorageError or TimeoutError."""
        async with asyncio.timeout(_TIMEOUT):
            await self._database.open()
            rows = await self._database.read(_CLAIM, (fingerprint, claim, _CLAIM_SECONDS))
        return bool(rows) and rows[0][0] == claim

    async def _find(self, fingerprint: str) -> dict[str, Any] | None:
        """The answer to a request; None if there is none, or if it is too old. Raises StorageError or TimeoutError."""
        async with asyncio.timeout(_TIMEOUT):
            rows: Sequence[tuple[bytes]] = await self._database.read(_FIND, (fingerprint, time.time() - _MAX_AGE))
        answer: dict[str, Any] | None = orjson.loads(rows[0][0]) if rows else None
        return answer

    @asynccontextmanager
    async def _renewed(self, fingerprint: str, claim: str) -> AsyncIterator[None]:
        """Renew a claim until the end of the block."""
        task = asyncio.create_task(self._renew(fingerprint, claim), name="replays-claim")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _renew(self, fingerprint: str, claim: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            await asyncio.sleep(_RENEW_EVERY)
            with contextlib.suppress(StorageError):  # it runs out, unless the next time succeeds
                await self._database.write(_RENEW, [(_CLAIM_SECONDS, fingerprint, claim)])

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
            await self._database.write("DELETE FROM running_chats WHERE until<now_seconds() - ?", [(_CLAIM_SECONDS,)])
        except StorageError as error:
            _log.warning("replays_write_failed", extra={"cause": str(error)})


def _name(conversation: Sequence[str | None]) -> str:
    return orjson.dumps(conversation).decode()
