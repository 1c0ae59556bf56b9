"""Concurrency limiter of one upstream. A request occupies its slot until the answer is closed."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from gateway.errors import Overloaded
from gateway.upstream.client import Incoming

__all__ = ["ConcurrencyLimiter"]


class ConcurrencyLimiter:
    """Limits the requests in flight at one upstream to `most`; None for no limit."""

    def __init__(self, name: str, most: int | None) -> None:
        self._name = name
        self._slots = None if most is None else asyncio.Semaphore(most)

    @property
    def has_limit(self) -> bool:
        return self._slots is not None

    @property
    def is_full(self) -> bool:
        return self._slots is not None and self._slots.locked()

    async def enter(self, timeout: float) -> None:
        """Acquire a slot; waits up to `timeout` seconds. Raises Overloaded."""
        if self._slots is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Overloaded(
                f"the upstream {self._name} is at its limit of concurrent requests; try again",
                headers={"retry-after": "1"},
            ) from error

    def leave(self) -> None:
        if self._slots is not None:
            self._slots.release()

    def held(self, incoming: Incoming) -> Incoming:
        """The same answer; closing it releases the slot."""
        return incoming if self._slots is None else _LimitedIncoming(incoming, self)


class _LimitedIncoming:
    """An answer that releases its slot when it is closed."""

    def __init__(self, incoming: Incoming, limiter: ConcurrencyLimiter) -> None:
        self.status = incoming.status
        self.headers: Mapping[str, str] = incoming.headers
        self._incoming = incoming
        self._limiter: ConcurrencyLimiter | None = limiter

    def chunks(self) -> AsyncGenerator[bytes]:
        return self._incoming.chunks()

    def close(self) -> None:
        self._incoming.close()
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.leave()
