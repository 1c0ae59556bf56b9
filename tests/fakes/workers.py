"""Several workers of one gateway in the process of the test, each on a port of its own, with the sockets between them.

The owner of the store is the first.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from gateway.app import Gateway
from gateway.config import Config
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from tests.fakes.running import Running, eventually

__all__ = ["Workers", "running_workers", "start_worker"]


class Workers:
    """Running workers by number. `ended`: the numbers of those that the owner ended; `socket`: the one for messages."""

    def __init__(self, configs: Sequence[Config], socket: str) -> None:
        self.configs = configs
        self.socket = socket
        self.members: list[Running] = []
        self.ended: list[int] = []

    @property
    def owner(self) -> Running:
        return self.members[0]

    def peers(self, number: int, count: int) -> Peers:
        """New peers for a worker."""
        if number:
            return FollowerPeers(number, count, self.socket)
        return OwnerPeers(count, self.socket, serving=lambda: range(1, count), end=self.ended.append)


@asynccontextmanager
async def start_worker(config: Config, peers: Peers) -> AsyncIterator[Running]:
    """Run one worker."""
    gateway = await asyncio.to_thread(Gateway, config, peers)
    started = await gateway.start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Running(gateway, started.url, session)
    finally:
        await gateway.stop()


@asynccontextmanager
async def running_workers(configs: Sequence[Config]) -> AsyncIterator[Workers]:
    """Run a worker for each configuration, and wait until they know each other."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gw"))  # paths of sockets are short
        workers = Workers(configs, str(Path(folder) / "bus"))
        for number, config in enumerate(configs):
            peers = workers.peers(number, len(configs))
            running = await stack.enter_async_context(start_worker(config, peers))
            workers.members.append(running)
            assert await peers.connected(5)
        for running in workers.members:
            assert await running.gateway.memory.ready(30), running.gateway.memory.state
        await eventually(lambda: _all_connected(workers, len(configs)))
        yield workers


async def _all_connected(workers: Workers, count: int) -> bool:
    report = (await workers.owner.get("/ready")).json
    return count == 1 or all(row["state"] == "ready" for row in report["workers"])
