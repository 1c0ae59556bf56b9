"""Chats at several gateways, and what became of those that were acknowledged."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp

from tests.fakes.process import Process
from tests.fakes.upstream import pause

__all__ = ["Load"]

_USERS = 8
_WRITERS = 6


class Load:
    """Users who talk to one gateway after another. `acknowledged`: the texts by user that were stored, as the client
    was told. `refusals`: how often others were not, by the answer."""

    def __init__(self, gateways: Callable[[], Sequence[Process]]) -> None:
        self.acknowledged: dict[str, list[str]] = {f"user-{number}": [] for number in range(_USERS)}
        self.refusals = Counter[str]()
        self._gateways = gateways
        self._numbers = itertools.count()
        self._session: aiohttp.ClientSession | None = None

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Talk until the end of the block."""
        is_ended = asyncio.Event()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as self._session:
            writers = [asyncio.create_task(self._write(is_ended)) for _ in range(_WRITERS)]
            try:
                yield
            finally:
                is_ended.set()
                await asyncio.gather(*writers)

    async def _write(self, is_ended: asyncio.Event) -> None:
        while not is_ended.is_set():
            number = next(self._numbers)
            gateways = self._gateways()
            if gateways:
                await self._add(gateways[number % len(gateways)], f"user-{number % _USERS}", f"Fact number {number}.")
            await pause(0.02)

    async def _add(self, gateway: Process, user: str, text: str) -> None:
        assert self._session is not None
        body = {"text": text, "user": user}
        try:
            async with self._session.post(f"{gateway.url}/v1/memory", json=body) as response:
                content = await response.text()
                if response.status == 201:
                    self.acknowledged[user].append(text)
                else:
                    self.refusals[content] += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.refusals[type(error).__name__] += 1

    async def check(self, gateway: Process) -> None:
        """Compare what a gateway exports with what was acknowledged: nothing is lost, and nothing is there twice."""
        assert self.count > 20, self.refusals
        counts = Counter(await gateway.texts())
        lost = [text for texts in self.acknowledged.values() for text in texts if not counts[text]]
        assert lost == [], f"{len(lost)} of {self.count} are lost"
        assert [text for text, count in counts.items() if count > 1] == []
