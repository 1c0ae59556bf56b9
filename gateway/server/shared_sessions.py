"""Names of conversations without an id, which the replicas of a cluster share through a table.

A conversation is written when it begins, is answered, and is continued. A request whose conversation is not known here
is looked for in the table before it is named: a retry, or one that moved here from another replica.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from gateway.errors import MemoryUnavailable
from gateway.server.sessions import SessionChange, Sessions
from gateway.storage.errors import StorageError

__all__ = ["Openings", "SharedSessions"]

_log = logging.getLogger("gateway.app")
_TIMEOUT: Final = 0.25  # seconds that a chat waits for the table


class Openings(Protocol):
    """The table. Methods but `put` raise StorageError."""

    async def load(self, scope: str, opening: str) -> Sequence[tuple[str, float, str, bool]]:
        """Name, start, digest of the first answer, and whether it was continued, of conversations with an opening."""

    def put(self, scope: str, opening: str, row: tuple[str, float, str, bool]) -> None:
        """Add or update a conversation, in the background."""

    async def forget(self, scopes: Sequence[str]) -> None:
        """Erase the conversations of these scopes."""


class SharedSessions:
    """Joins the index of a replica with the table."""

    def __init__(self, sessions: Sessions, table: Openings) -> None:
        self._sessions = sessions
        self._table = table
        sessions.on_change.append(self._put)

    async def prepare(self, scope: str, opening: str, first_answer: str) -> None:
        """Make the conversation of a request known to the index, if another replica knows it."""
        if first_answer and self._sessions.knows(scope, opening, first_answer):
            return
        key = self._sessions.key(scope, opening)
        try:
            async with asyncio.timeout(_TIMEOUT):
                for name, began, answer, is_continued in await self._table.load(*key):
                    self._sessions.note((key, name, began, answer, is_continued))
        except (StorageError, TimeoutError) as error:
            _log.warning("openings_read_failed", extra={"cause": str(error) or "timeout"})

    async def forget(self, scopes: Sequence[str], session: str | None) -> None:
        """Erase the conversations of these scopes, unless one session is named. Raises MemoryUnavailable."""
        if session is not None:
            return
        try:
            await self._table.forget(scopes)
        except StorageError as error:
            raise MemoryUnavailable(f"the table of conversations still names them ({error}); try again") from error

    def _put(self, change: SessionChange) -> None:
        key, name, began, answer, is_continued = change
        self._table.put(*key, (name, began, answer, is_continued))
