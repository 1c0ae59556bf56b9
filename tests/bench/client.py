"""Requests to a server under measurement: closed loops, steady rates, paced streams; and CPU time a request."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import aiohttp
import orjson

from tests.bench.processes import Server
from tests.bench.servers import INTERVAL
from tests.bench.texts import is_task

__all__ = ["Client", "Load", "Reply", "Sample", "count_statuses"]

_SENT = re.compile(rb'"sent":(\d+)')
_JSON = {"content-type": "application/json"}
_SESSIONS = 50  # conversations of a user


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a request: milliseconds as the client sees them; status of memory and overhead by the headers."""

    ms: float
    memory: str
    overhead_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """A number of texts that are asked: `at_once` concurrently, or with `per_second` at a steady rate. `length`:
    characters of the answers. `is_everyday`: most texts are tasks, see `is_task`."""

    texts: Sequence[str]
    length: int = 120
    at_once: int = 8
    per_second: float = 0
    is_everyday: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: CPU milliseconds a request, storing included; the replies; requests a second without storing."""

    cpu_ms: float
    replies: Sequence[Reply]
    per_second: float


class Client:
    """Asks servers over one session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def ask(
        self, server: Server, text: str, *, user: str = "", number: int = 0, model: str = "answer-120", mode: str = "on"
    ) -> Reply:
        """One chat. `user` and `mode` count only for a server with memory."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        headers = dict(_JSON)
        if server.has_memory:
            headers |= {"x-memory-user": user, "x-memory-session": f"s{number % _SESSIONS}", "x-memory-mode": mode}
        url = f"{server.url}/v1/chat/completions"
        began = time.perf_counter()
        async with self.session.post(url, data=orjson.dumps(body), headers=headers) as response:
            await response.read()
            assert response.status == 200, (server.label, response.status)
            ms = (time.perf_counter() - began) * 1000
            overhead = float(response.headers.get("x-gateway-overhead-ms", 0))
            return Reply(ms, response.headers.get("x-memory-status", ""), overhead)

    async def run(self, server: Server, load: Load, user: str = "", mode: str = "on") -> list[Reply]:
        """Ask all texts of a load."""
        numbered = enumerate(load.texts)
        replies: list[Reply] = []

        async def ask(number: int, text: str) -> None:
            model = f"{'task' if load.is_everyday and is_task(number) else 'answer'}-{load.length}"
            reply = await self.ask(server, text, user=user, number=number, model=model, mode=mode)
            replies.append(reply)

        async def work() -> None:
            for number, text in numbered:
                await ask(number, text)

        if not load.per_second:
            await asyncio.gather(*(work() for _ in range(load.at_once)))
            return replies
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, text in numbered:
                await asyncio.sleep(max(0.0, begin + number / load.per_second - time.perf_counter()))
                group.create_task(ask(number, text))
        return replies

    async def measure(self, server: Server, load: Load, warm_up: Sequence[str], user: str = "") -> Sample:
        """CPU time of a load until everything is stored and synced. What follows a pause is measured too cheap, so the
        texts of `warm_up` are asked first, which also loads the user's memories."""
        await self.run(server, replace(load, texts=warm_up, per_second=0), user, mode="read")
        before, began = server.cpu(), time.perf_counter()
        replies = await self.run(server, load, user)
        elapsed = time.perf_counter() - began
        if server.has_memory:
            await self.settle(server)
        cpu_ms = (server.cpu() - before) * 1000 / len(replies)
        return Sample(cpu_ms, replies, len(replies) / elapsed)

    async def settle(self, server: Server) -> None:
        """Wait until all earlier writes are stored and synced to disk, as an export does."""
        async with self.session.get(f"{server.url}/v1/memory/export", params={"user": "no such user"}) as response:
            body = await response.read()
            assert response.status == 200, (server.label, body[:200])

    async def stream(self, server: Server) -> list[float]:
        """Read one stream; for each chunk the milliseconds since the upstream sent it."""
        body = {"model": "paced", "stream": True, "messages": [{"role": "user", "content": "Tell me a story."}]}
        url, delays = f"{server.url}/v1/chat/completions", list[float]()
        async with self.session.post(url, data=orjson.dumps(body), headers=_JSON) as response:
            assert response.status == 200, (server.label, response.status)
            async for chunk in response.content.iter_any():
                now = time.monotonic_ns()
                delays += [(now - int(sent)) / 1e6 for sent in _SENT.findall(chunk)]
        return delays

    async def streams(self, server: Server, count: int, *, is_spread: bool = False) -> list[float]:
        """Read `count` streams at once. They begin together, so that their chunks come in bursts; or with `is_spread`
        one after the other, each at another moment of the interval between two chunks."""
        step = INTERVAL + INTERVAL / count if is_spread else 0.0

        async def read(number: int) -> list[float]:
            await asyncio.sleep(number * step)
            return await self.stream(server)

        results = await asyncio.gather(*map(read, range(count)))
        return [delay for delays in results for delay in delays]

    async def add(self, server: Server, user: str, messages: Iterable[str], *, mode: str) -> float:
        """Add messages by `/product/add`. Milliseconds until the answer."""
        body = {
            "user_id": user,
            "session_id": "bench",
            "messages": [{"role": "user", "content": text} for text in messages],
            "async_mode": mode,
        }
        began = time.perf_counter()
        async with self.session.post(f"{server.url}/product/add", data=orjson.dumps(body), headers=_JSON) as response:
            answer = await response.read()
            assert response.status == 200, (server.label, answer[:200])
        return (time.perf_counter() - began) * 1000


def count_statuses(replies: Iterable[Reply]) -> str:
    """How often memory had each status, as text."""
    counts = Counter(reply.memory for reply in replies)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())
