"""The memory's start, as those see it who need the memory: wait for it, or say why it is not there."""

import asyncio
from collections.abc import Callable

from gateway.errors import MemoryUnavailable

__all__ = ["Startup"]

_LOADING = "loading"


class Startup:
    """`state` tells the engine's state: `loading`, `ready`, or `degraded: PART`. `wait_limit`: seconds that a request
    waits for the memory to be loaded."""

    def __init__(self, state: Callable[[], str], wait_limit: float) -> None:
        self._state = state
        self._wait_limit = wait_limit
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """The memory is loaded."""
        self._is_over.set()

    async def wait(self) -> None:
        """Wait until the memory is loaded, but not for long, and not while a part of it fails."""
        if self._is_over.is_set() or self._state() != _LOADING or not self._wait_limit:
            return
        try:
            async with asyncio.timeout(self._wait_limit):
                await self._is_over.wait()
        except TimeoutError:
            return

    @property
    def reason(self) -> str:
        """Why there is no memory: a word for headers and metrics."""
        return _LOADING if self._state() == _LOADING else "failed"

    def error(self) -> MemoryUnavailable:
        """What those are told who asked for nothing but the memory."""
        state = self._state()
        if state == _LOADING:
            return MemoryUnavailable("the memory is loading; try again in a moment", headers={"retry-after": "2"})
        part = state.partition(": ")[2] or state
        message = f"the memory cannot be loaded ({part} failed): the gateway's log says why, and it is tried again"
        return MemoryUnavailable(message, headers={"retry-after": "30"})
