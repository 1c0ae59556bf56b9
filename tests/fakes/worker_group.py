"""The workers of one gateway inside the test's process: each with a port of its own, all on one data folder."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from gateway.app import Gateway
from gateway.config import Config
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from tests.fakes.running import Running


class WorkerGroup:
    """Workers by number; number 0 owns the store. `ended`: those that the owner would have ended."""

    def __init__(self, config: Config, count: int, session: aiohttp.ClientSession, folder: str) -> None:
        self.count = count
        self.ended: list[int] = []
        self._config = config
        self._session = session
        self._socket = f"{folder}/bus"
        self._workers: dict[int, Running] = {}

    def __getitem__(self, number: int) -> Running:
        return self._workers[number]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the workers that run."""
        return sorted(self._workers)

    @property
    def all(self) -> list[Running]:
        return [self._workers[number] for number in sorted(self._workers)]

    @property
    def owner(self) -> Running:
        return self._workers[0]

    async def start(self, number: int) -> None:
        peers = self._peers(number)
        gateway = await asyncio.to_thread(Gateway, self._config, peers)
        address = await gateway.start()
        self._workers[number] = Running(gateway, address.url, self._session)

    async def ready(self, numbers: Iterable[int] | None = None) -> None:
        for number in sorted(self._workers) if numbers is None else numbers:
            memory = self._workers[number].gateway.memory
            assert await memory.ready(30), (number, memory.state)

    async def stop(self, number: int) -> None:
        await self._workers.pop(number).gateway.stop()

    def _peers(self, number: int) -> Peers:
        if number:
            return FollowerPeers(number, self.count, self._socket)
        return OwnerPeers(self.count, self._socket, serving=lambda: self._workers.keys() - {0}, end=self.ended.append)


@asynccontextmanager
async def running_workers(config: Config, count: int = 3) -> AsyncIterator[WorkerGroup]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="workers-"))  # a socket's path must be short
        group = WorkerGroup(config, count, session, folder)
        config.data_folder.mkdir(parents=True, exist_ok=True)  # as the supervisor does when it takes the lock
        try:
            for number in range(count):
                await group.start(number)
            await group.ready()
            yield group
        finally:
            for number in group.numbers[::-1]:
                await group.stop(number)
