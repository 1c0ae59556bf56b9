"""A cluster under test: gateways on one database and one place on S3, in this process or in processes of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.app import Gateway
from gateway.config import Config
from gateway.storage.lance.object_place import ObjectStorage
from tests.fakes.process import Process, started_process
from tests.fakes.running import Reply, Running, configuration, eventually

__all__ = ["Cluster", "listed", "recalls", "running_gateways", "said"]

LEASE_SECONDS = 4


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the gateways are to be, and what they are to share. `beside`: a process in whose namespaces processes of
    gateways run; `key`: of the gateways, if they ask for one; `more`: what else their configuration has;
    `prepare`: a function that their processes call first."""

    folder: Path
    database_url: str
    storage: ObjectStorage
    upstream_url: str
    beside: int | None = None
    key: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The configuration of each gateway, as dotted changes of that for tests."""
        storage = self.storage
        return {
            "memory__uri": storage.uri,
            "memory__database": self.database_url,
            "memory__lease_seconds": LEASE_SECONDS,
            "memory__storage": {
                "endpoint": storage.endpoint,
                "region": storage.region,
                "access_key": storage.access_key,
                "secret_key": storage.secret_key,
                "allow_http": storage.allow_http,
            },
            **self.more,
            **changes,
        }

    def configuration(self, name: str, **changes: Any) -> Config:
        """The configuration of a gateway in a folder of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return configuration(folder, self.upstream_url, **self.settings(**changes))

    @asynccontextmanager
    async def running(self, count: int = 3, **changes: Any) -> AsyncIterator[list[Running]]:
        """Run gateways in this process, until all have their memory."""
        names = [f"gateway-{number}" for number in range(count)]
        configs = [await asyncio.to_thread(self.configuration, name, **changes) for name in names]
        async with running_gateways(configs) as gateways:
            yield gateways

    @asynccontextmanager
    async def process(self, name: str, **changes: Any) -> AsyncIterator[Process]:
        """Run a gateway in a process of its own, until it has its memory."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        await asyncio.to_thread(configuration, folder, self.upstream_url, **self.settings(**changes))
        async with started_process(folder, beside=self.beside, key=self.key, prepare=self.prepare) as process:
            await eventually(lambda: _is_ready(process), 60)
            yield process


@asynccontextmanager
async def running_gateways(configs: Sequence[Config], *, wait: bool = True) -> AsyncIterator[list[Running]]:
    """Run gateways in this process; `wait`: until all have their memory."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        gateways: list[Running] = []
        for config in configs:
            gateway = await asyncio.to_thread(Gateway, config)
            started = await gateway.start()
            stack.push_async_callback(gateway.stop)
            gateways.append(Running(gateway, started.url, session))
        for running in gateways if wait else ():
            assert await running.gateway.memory.ready(30), running.gateway.memory.state
        yield gateways


async def _is_ready(process: Process) -> bool:
    return bool((await process.state())["memory"] == "ready")


async def said(gateway: Running | Process, text: str, user: str = "ada", session: str = "s") -> int:
    """Say something in a chat. Returns the status."""
    body = {"model": "fake-1", "messages": [{"role": "user", "content": text}]}
    headers = {"x-memory-user": user, "x-memory-session": session}
    reply: Reply | tuple[int, bytes] = await gateway.post("/v1/chat/completions", body, headers)
    return reply[0] if isinstance(reply, tuple) else reply.status


async def recalls(gateway: Running | Process, query: str, user: str = "ada") -> list[str]:
    """The texts that a search finds."""
    return [entry["text"] for entry in await listed(gateway, "search", query=query, user=user)]


async def listed(gateway: Running | Process, way: str = "list", **parameters: str) -> list[dict[str, Any]]:
    """The memories that a list or a search gives."""
    async with gateway.session.get(f"{gateway.url}/v1/memory/{way}", params={"limit": "200", **parameters}) as response:
        assert response.status == 200, await response.text()
        entries: list[dict[str, Any]] = (await response.json())["data"]
        return entries
