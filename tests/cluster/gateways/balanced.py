"""Several gateways as one: each request goes to the next of them, as through a balancer without affinity."""

import itertools
from collections.abc import Sequence

from tests.fakes.running import Running, eventually

__all__ = ["Balanced"]


class Balanced(Running):
    """`gateways` behind one interface; `url` is that of another one each time."""

    def __init__(self, gateways: Sequence[Running]) -> None:
        self._gateways = gateways
        self._turns = itertools.cycle(gateways)
        super().__init__(gateways[0].gateway, "", gateways[0].session)

    @property
    def url(self) -> str:
        return next(self._turns).url

    @url.setter
    def url(self, url: str) -> None:
        """Ignore it: each gateway has its own."""

    @property
    def urls(self) -> Sequence[str]:
        return [running.url for running in self._gateways]

    async def settled(self, timeout: float = 20) -> None:
        """Wait until all that was said is stored, and all gateways know of it."""
        for running in self._gateways:
            await running.finished(timeout)
        for running in self._gateways:
            barrier = running.gateway.memory.barrier
            await eventually(lambda barrier=barrier: barrier.drained(timeout), timeout)  # type: ignore[misc]
            await eventually(lambda barrier=barrier: barrier.searchable(timeout), timeout)  # type: ignore[misc]
