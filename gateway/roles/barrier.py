"""Waits for earlier writes: until they can be found, are in the table of all memories, or are on the disk."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from gateway.errors import MemoryUnavailable
from gateway.remember.remember import Remember
from gateway.roles.role import MemoryRole
from gateway.turn import Identity, Scope

__all__ = ["WriteBarrier"]

_FIRST_MEMORIES_TIMEOUT: Final = 1.0  # seconds that a user's second request waits for the first one to be stored
_SETTLE_TIMEOUT: Final = 60.0  # seconds that export, import and forget wait for earlier writes


class WriteBarrier:
    """Waits for earlier writes of this process. `ready` waits, at most some seconds, until the memory is loaded."""

    def __init__(self, role: MemoryRole, remember: Remember, ready: Callable[[float], Awaitable[bool]]) -> None:
        self._role = role
        self._remember = remember
        self._ready = ready

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until all earlier writes (or those up to a journal number) can be found. False on time-out."""
        if not self._role.has_begun:
            await self._ready(timeout)
        return await self._role.searchable(timeout, seq)

    async def drained(self, timeout: float) -> bool:
        """Wait until all earlier writes are in the table of all memories. False on time-out."""
        if not self._role.has_begun:
            await self._ready(timeout)
        return await self._role.drained(timeout)

    async def settle(self, scopes: Collection[str] | None = None) -> None:
        """Wait until all earlier writes, of these scopes at least (None: of all), are stored and synced to disk. Raises
        MemoryUnavailable."""
        if not self._role.has_begun:
            await self._ready(_SETTLE_TIMEOUT)
        if not await self._role.synced(_SETTLE_TIMEOUT, scopes):
            raise MemoryUnavailable("earlier writes are not stored yet; try again")

    async def caught_up(self, identity: Identity, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until the last write of a conversation is searchable."""
        await self._reach(self._remember.last_of(identity), timeout)

    async def await_first(self, scopes: Sequence[Scope]) -> None:
        """Wait until the first memories of a new user are searchable: new users often ask about them at once."""
        await self._reach(max(map(self._remember.first_of, scopes), default=0), _FIRST_MEMORIES_TIMEOUT)

    async def _reach(self, seq: int, timeout: float) -> None:
        if seq:
            await self._role.reached(seq, timeout)
