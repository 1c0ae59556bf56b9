"""Waits for earlier writes: until they can be found, are in the table of all memories, or are on the disk."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.errors import MemoryUnavailable
from gateway.remember.remember import Remember
from gateway.remember.writer import Writer
from gateway.sharing import FollowerLink
from gateway.storage.errors import StorageError
from gateway.storage.protocols import RecordLog
from gateway.turn import Identity, Scope

__all__ = ["WriteBarrier"]

_log = logging.getLogger("gateway.memory")
_FIRST_MEMORIES_TIMEOUT: Final = 1.0  # seconds that a user's second request waits for the first one to be stored
_SETTLE_TIMEOUT: Final = 60.0  # seconds that export, import and forget wait for earlier writes


class WriteBarrier:
    """`writer` and `follower` are set when the memory is loaded; a follower's writes are stored by another worker.
    `ready` waits, at most some seconds, until the memory is loaded."""

    def __init__(self, journal: RecordLog, remember: Remember, ready: Callable[[float], Awaitable[bool]]) -> None:
        self.writer: Writer | None = None
        self.follower: FollowerLink | None = None
        self._journal = journal
        self._remember = remember
        self._ready = ready

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until all earlier writes (or those up to a journal number) can be found. False on time-out."""
        if self.follower is not None:
            return await self.follower.searchable(timeout, seq)
        if self.writer is None:
            await self._ready(timeout)
        if self.writer is None:
            return False
        await self._catch_up()
        return await self.writer.searchable(timeout, seq)

    async def drained(self, timeout: float) -> bool:
        """Wait until all earlier writes are in the table of all memories. False on time-out."""
        if self.writer is None:
            await self._ready(timeout)
        if self.writer is None:
            return False
        await self._catch_up()
        return await self.writer.drained(timeout)

    async def settle(self) -> None:
        """Wait until all earlier writes are stored and synced to disk. Raises MemoryUnavailable."""
        is_settled = await self.drained(_SETTLE_TIMEOUT) and self.writer is not None
        if not is_settled or self.writer is None or not await self.writer.synced(_SETTLE_TIMEOUT):
            raise MemoryUnavailable("earlier writes are not stored yet; try again")

    async def caught_up(self, identity: Identity, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until the last write of a conversation is searchable."""
        await self._reach(self._remember.last_of(identity), timeout)

    async def await_first(self, scopes: Sequence[Scope]) -> None:
        """Wait until the first memories of a new user are searchable: new users often ask about them at once."""
        await self._reach(max(map(self._remember.first_of, scopes), default=0), _FIRST_MEMORIES_TIMEOUT)

    async def _reach(self, seq: int, timeout: float) -> None:
        if not seq:
            return
        if self.follower is not None:
            await self.follower.searchable(timeout, seq)
        elif self.writer is not None:
            await self.writer.searchable(timeout, seq)

    async def _catch_up(self) -> None:
        """Take note of what other workers have written."""
        try:
            await self._journal.catch_up()
        except StorageError as error:
            _log.warning("journal_catch_up_failed", extra={"cause": str(error)})
