"""For tests of plugins and of clients: a real gateway inside the test's process, or one plugin without a gateway.

    config = {"upstreams": [{"name": "up", "base_url": url}], "plugins": [{"use": "curfew"}]}
    async with running(config, tmp_path) as gateway:
        ...  # send requests to gateway.url with any HTTP client
        await gateway.settled()  # all that was stored is searchable now

    async with started(Curfew, forbidden=["war"]) as curfew:
        with pytest.raises(Reject):
            await curfew.call("on_request", turn("Tell me about the war."))

There is no model server here: configure an upstream of your own, or one of `kind: offline`.
"""

import asyncio
import inspect
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
import yaml

from gateway.app import Gateway
from gateway.config import Config, load
from gateway.formats.chat import ChatFormat, read_chat
from gateway.frozen_json import freeze
from gateway.hooks import Plugin, Services
from gateway.identity import identify
from gateway.storage.counters import SharedCounters
from gateway.turn import Principal, Right, Turn

__all__ = ["PluginUnderTest", "RunningGateway", "eventually", "running", "started", "turn"]

AnyPlugin = TypeVar("AnyPlugin", bound=Plugin)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], timeout: float = 5) -> None:
    """Wait until a condition is true. Raises AssertionError after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if await result if inspect.isawaitable(result) else result:
            return
        assert time.monotonic() < deadline, "the condition did not come true in time"  # noqa: S101 — for tests
        await asyncio.sleep(0.01)


class RunningGateway:
    """A started gateway at `url`. `gateway` is the object, for its public parts (`memory`, `tasks`, `telemetry`)."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        self.gateway = gateway
        self.url = url

    async def finished(self, timeout: float = 10) -> None:
        """Wait until the work after answers is done: remembering, counting, `on_response` and `on_error`."""
        await eventually(lambda: self.gateway.tasks.is_idle, timeout)

    async def settled(self, timeout: float = 10) -> None:
        """Wait until all that was said is stored and searchable."""
        await self.finished(timeout)
        memory = self.gateway.memory

        async def is_settled() -> bool:
            return await memory.barrier.drained(timeout) and memory.journal.backlog_entries == 0

        await eventually(is_settled, timeout)

    async def extracted(self, timeout: float = 20) -> None:
        """Wait until facts were extracted from all messages."""
        await self.settled()
        await eventually(self.gateway.memory.is_extraction_idle, timeout)

    @property
    def plugins(self) -> list[Any]:
        """The plugins, in the order of the configuration."""
        return [entry.plugin for entry in self.gateway.plugins.loaded]

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it was never set."""
        return self.gateway.telemetry.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(
    config: Config | Mapping[str, Any], folder: Path | None = None, *, wait: bool = True
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on a free port. A mapping has the keys of the configuration file, and needs a `folder` (`tmp_path`
    of pytest) for that file, `data/` and `plugins/`. `wait`: until the memory is loaded."""
    if not isinstance(config, Config):
        config = await asyncio.to_thread(_write_config, config, folder or Path())
    gateway = await asyncio.to_thread(Gateway, config)
    address = await gateway.start()
    try:
        assert not wait or await gateway.memory.ready(30), gateway.memory.state  # noqa: S101 — for tests
        yield RunningGateway(gateway, address.url)
    finally:
        await gateway.stop()


def _write_config(values: Mapping[str, Any], folder: Path) -> Config:
    server = {"port": 0, "shutdown_timeout": 2, **values.get("server", {})}
    memory = {"uri": "./data", **values.get("memory", {})}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({**values, "server": server, "memory": memory}), "utf-8")
    return load(file)


def turn(query: str = "hello", *, user: str = "ada", body: Mapping[str, Any] | None = None, **fields: Any) -> Turn:
    """The turn of a chat request, as plugins get it. `body`: the whole request instead of one message; `fields`: of
    `Turn`."""
    body = body or {"model": "m", "messages": [{"role": "user", "content": query}]}
    principal, headers = Principal("default", frozenset(Right)), {"x-memory-user": user}
    ask = read_chat(body, 10_000)
    identity = identify(principal, headers, ask, None)
    values = {"id": "0" * 32, "started": time.perf_counter(), "received_at": time.time(), "principal": principal}
    values |= {"path": "/chat/completions", "headers": headers, "raw": orjson.dumps(body), "body": body}
    values |= {"ask": ask, "wire_format": ChatFormat(), "identity": identity, "user": user}
    return Turn(**{**values, **fields})


class PluginUnderTest(Generic[AnyPlugin]):
    """A started plugin. `now` is its clock, to be set; `counts` are its counters."""

    def __init__(self, plugin: AnyPlugin, folder: Path) -> None:
        self.plugin = plugin
        self.now = time.time()
        self.counts: Counter[str] = Counter()
        logger, count = logging.getLogger("gateway.plugin.test"), lambda kind: self.counts.update([kind])
        counters = SharedCounters(clock=lambda: self.now)
        self.services = Services(logger, folder, lambda: self.now, count, counters)

    async def call(self, hook: str, *arguments: Any) -> Any:
        """The result of a hook. Messages are read-only as in a gateway; exceptions are passed on."""
        result = getattr(self.plugin, hook)(*map(freeze, arguments))
        return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def started(
    plugin: type[AnyPlugin], folder: Path = Path("unused"), **config: Any
) -> AsyncIterator[PluginUnderTest[AnyPlugin]]:
    """Start a plugin without a gateway, with these settings. `folder`: for a plugin that writes files."""
    test = PluginUnderTest(plugin(plugin.Config(**config)), folder)
    await test.plugin.start(test.services)
    try:
        yield test
    finally:
        await test.plugin.stop()
