"""Chats and additions at several gateways, and what became of those that were acknowledged."""

import asyncio
import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp

from tests.fakes.process import Process
from tests.fakes.upstream import pause

__all__ = ["ROUTES", "Load", "Route"]

Route = Callable[[Sequence[Process], int, str], Process]
"""Chooses the gateway for a request with a number, of a user."""

_USERS = 8
_WRITERS = 6
_CHAT_EVERY = 3  # requests
_TIMEOUT = aiohttp.ClientTimeout(total=15)
_FACT = "Fact number"


def by_turns(gateways: Sequence[Process], number: int, user: str) -> Process:
    """As a balancer without affinity does."""
    return gateways[number % len(gateways)]


def by_user(gateways: Sequence[Process], number: int, user: str) -> Process:
    """As a balancer with a consistent hash of `x-memory-user` does: others keep their users when one ends."""
    return max(gateways, key=lambda gateway: hashlib.sha256(f"{gateway.url} {user}".encode()).digest())


ROUTES: dict[str, Route] = {"by turns": by_turns, "by user": by_user}


class Load:
    """Users who talk to the gateways, and add memories. `acknowledged`: the texts by user that were stored, as the
    client was told. `refusals`: how often others were not, by the answer. `chats`: how many got an answer;
    `failed_chats`: how often others did not, by the cause."""

    def __init__(self, gateways: Callable[[], Sequence[Process]], route: Route = by_turns) -> None:
        self.acknowledged: dict[str, list[str]] = {f"user-{number}": [] for number in range(_USERS)}
        self.refusals = Counter[str]()
        self.chats = 0
        self.failed_chats = Counter[str]()
        self._gateways = gateways
        self._route = route
        self._numbers = itertools.count()

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Talk until the end of the block."""
        is_ended = asyncio.Event()
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
                user = f"user-{number % _USERS}"
                gateway = self._route(gateways, number, user)
                if number % _CHAT_EVERY:
                    await self._add(gateway, user, f"{_FACT} {number}.")
                else:
                    await self._chat(gateway, user, f"{_FACT} {number}.")
            await pause(0.02)

    async def _add(self, gateway: Process, user: str, text: str) -> None:
        body, headers = {"text": text, "user": user}, {"x-memory-user": user}
        try:
            async with gateway.session.post(
                f"{gateway.url}/v1/memory", json=body, headers=headers, timeout=_TIMEOUT
            ) as response:
                content = await response.text()
                if response.status == 201:
                    self.acknowledged[user].append(text)
                else:
                    self.refusals[content] += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.refusals[type(error).__name__] += 1

    async def _chat(self, gateway: Process, user: str, text: str) -> None:
        body = {"model": "fake-1", "messages": [{"role": "user", "content": text}]}
        headers = {"x-memory-user": user, "x-memory-session": f"load-{user}"}
        try:
            async with gateway.session.post(
                f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=_TIMEOUT
            ) as response:
                content = await response.text()
                if response.status != 200:
                    self.failed_chats[f"{response.status} {content}"] += 1
                    return
                self.chats += 1
                if response.headers["x-memory-status"] != "degraded":
                    self.acknowledged[user].append(text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failed_chats[type(error).__name__] += 1

    async def check(self, gateway: Process) -> None:
        """Compare what a gateway exports with what was acknowledged: nothing is lost, and nothing is there twice."""
        assert self.count > 20, self.refusals
        counts = Counter(text for text in await gateway.texts() if text.startswith(_FACT))
        lost = [text for texts in self.acknowledged.values() for text in texts if not counts[text]]
        assert lost == [], f"{len(lost)} of {self.count} are lost"
        assert [text for text, count in counts.items() if count > 1] == []
