"""How many requests are at one upstream at once, where that is limited. A place is held until its answer is closed."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from gateway.errors import Overloaded
from gateway.upstream.client import Incoming

__all__ = ["Lane"]


class Lane:
    """Places at one upstream; `most` None: as many as come."""

    def __init__(self, name: str, most: int | None) -> None:
        self._name = name
        self._places = None if most is None else asyncio.Semaphore(most)

    @property
    def is_full(self) -> bool:
        return self._places is not None and self._places.locked()

    async def enter(self, timeout: float) -> None:
        """Take a place, or wait for one. Raises Overloaded."""
        if self._places is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._places.acquire()
        except TimeoutError as error:
            raise Overloaded(
                f"the upstream {self._name} has as many requests as it may have; try again",
                headers={"retry-after": "1"},
            ) from error

    def leave(self) -> None:
        if self._places is not None:
            self._places.release()

    def held(self, incoming: Incoming) -> Incoming:
        """The same answer; closing it gives the place back."""
        return incoming if self._places is None else _Held(incoming, self)


class _Held:
    def __init__(self, incoming: Incoming, lane: Lane) -> None:
        self.status = incoming.status
        self.headers: Mapping[str, str] = incoming.headers
        self._incoming = incoming
        self._lane: Lane | None = lane

    def chunks(self) -> AsyncGenerator[bytes]:
        return self._incoming.chunks()

    def close(self) -> None:
        self._incoming.close()
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.leave()
