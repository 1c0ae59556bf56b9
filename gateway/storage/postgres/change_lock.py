"""The lock of those who read a shared value, change it and put it back, in all gateways of a cluster: a lease that is
held for a moment. A gateway that stops with it delays the others until it has run out."""

import asyncio
import time
from types import TracebackType
from typing import Final

from gateway.storage.errors import StorageError
from gateway.storage.postgres.leases import Leases

__all__ = ["MEMORIES", "SETTINGS", "ChangeLock"]

SETTINGS: Final = -2
"""The lock of values in the registry."""
MEMORIES: Final = -3
"""The lock of memories that are changed or deleted."""
_PATIENCE: Final = 15.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class ChangeLock:
    """A lock for `async with`, which raises StorageError. `number`: of its lease."""

    def __init__(self, leases: Leases, number: int) -> None:
        self._leases = leases
        self._number = number
        self._own = asyncio.Lock()  # within this gateway

    async def __aenter__(self) -> None:
        await self._own.acquire()
        try:
            await self._acquire()
        except BaseException:
            self._own.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await self._leases.release([self._number])
        except StorageError:
            pass  # it runs out
        finally:
            self._own.release()

    async def _acquire(self) -> None:
        deadline, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
        while not await self._leases.acquire([self._number]):
            if time.monotonic() > deadline:
                raise StorageError("registry", "another gateway changes something for too long")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
