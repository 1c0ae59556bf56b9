"""Startup of the memory: waits until it is loaded, and gives the reason while it is not."""

import asyncio
import time
from collections.abc import Callable

from gateway.errors import MemoryUnavailable

__all__ = ["Startup"]

_LOADING = "loading"
_LOOK_EVERY = 0.1  # seconds


class Startup:
    """`state` returns the engine's state: `loading`, `ready`, or `degraded: PART`. `wait_limit`: seconds that a
    request waits for the memory to be loaded."""

    def __init__(self, state: Callable[[], str], wait_limit: float) -> None:
        self._state = state
        self._wait_limit = wait_limit
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Note that the memory is loaded."""
        self._is_over.set()

    async def wait(self) -> None:
        """Wait until the memory is loaded, for at most `wait_limit`, and not while a part of it fails."""
        deadline = time.monotonic() + self._wait_limit
        while not self._is_over.is_set() and self._state() == _LOADING and time.monotonic() < deadline:
            try:
                async with asyncio.timeout(min(_LOOK_EVERY, self._wait_limit)):
                    await self._is_over.wait()
            except TimeoutError:
                continue  # a part may have failed meanwhile

    @property
    def reason(self) -> str:
        """Why there is no memory: a word for headers and metrics."""
        return _LOADING if self._state() == _LOADING else "failed"

    def error(self) -> MemoryUnavailable:
        """The answer to a request that needs the memory."""
        state = self._state()
        if state == _LOADING:
            return MemoryUnavailable("the memory is loading; try again in a moment", headers={"retry-after": "2"})
        part = state.partition(": ")[2] or state
        message = f"the memory cannot be loaded ({part} failed): the gateway's log says why, and it is tried again"
        return MemoryUnavailable(message, headers={"retry-after": "30"})
