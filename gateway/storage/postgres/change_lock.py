"""The locks of those who read a shared value, change it and put it back, in all gateways of a cluster: leases that are
held for a moment. A gateway that stops with one delays the others until it has run out.

Memories are locked by scope. Several scopes share a lock, so that the table of leases has a limited number of them.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final

from gateway.storage.bucket_numbers import FIRST_SCOPE_LOCK, SCOPE_LOCKS, bucket_of
from gateway.storage.errors import StorageError
from gateway.storage.postgres.leases import Leases

__all__ = ["ChangeLock", "ScopeLocks"]

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
            await _acquire(self._leases, [self._number])
        except BaseException:
            self._own.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await _release(self._leases, [self._number])
        finally:
            self._own.release()


class ScopeLocks:
    """The locks of memories that are changed or deleted."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._own: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)  # within this gateway

    @asynccontextmanager
    async def holding(self, scopes: Collection[str]) -> AsyncIterator[None]:
        """Hold the locks of these scopes. Raises StorageError."""
        numbers = sorted({FIRST_SCOPE_LOCK - bucket_of(scope, SCOPE_LOCKS) for scope in scopes})
        async with AsyncExitStack() as stack:
            for number in numbers:
                await stack.enter_async_context(self._own[number])
            await _acquire(self._leases, numbers)
            try:
                yield
            finally:
                await _release(self._leases, numbers)


async def _acquire(leases: Leases, numbers: Sequence[int]) -> None:
    """Take leases, each one only with all before it, so that no two gateways wait for each other."""
    deadline, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
    count = 0  # of those that are taken
    try:
        while count < len(numbers):
            rest = numbers[count:]
            taken = await leases.acquire(rest)
            length = next((place for place, number in enumerate(rest) if number not in taken), len(rest))
            count += length
            if length == len(rest):
                return
            if early := [number for number in rest[length:] if number in taken]:
                await leases.release(early)
            if time.monotonic() > deadline:
                raise StorageError("registry", "another gateway changes something for too long")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
    except BaseException:
        await _release(leases, numbers[:count])
        raise


async def _release(leases: Leases, numbers: Sequence[int]) -> None:
    if numbers:
        with contextlib.suppress(StorageError):  # they run out
            await leases.release(numbers)
