"""A gateway under test: a real one, on a real port, with a data folder of its own."""

import io
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.app import Gateway
from gateway.config import Config, load
from gateway.testing import RunningGateway, eventually, running

__all__ = [
    "CLUSTER",
    "WORKERS",
    "Reply",
    "Running",
    "changed",
    "cluster_count",
    "configuration",
    "eventually",
    "running_gateway",
    "worker_count",
]

WORKERS = "GATEWAY_TEST_WORKERS"
"""The environment variable with the number of workers of the gateways under test: pytest's option `--workers`."""
CLUSTER = "GATEWAY_TEST_CLUSTER"
"""That with the number of gateways of the clusters under test: pytest's option `--cluster`."""


def worker_count() -> int:
    return int(os.environ.get(WORKERS, "1"))


def cluster_count() -> int:
    return int(os.environ.get(CLUSTER, "1"))


def configuration(folder: Path, upstream_url: str, **changes: Any) -> Config:
    """A configuration file in `folder` with one upstream; `changes` are dotted paths (`memory__recall__top_k=3`)."""
    raw: dict[str, Any] = {
        "server": {"port": 0, "shutdown_timeout": 2},
        "upstreams": [{"name": "fake", "base_url": upstream_url}],
        "models": {"default": "fake-1"},
        "memory": {"uri": "./data", "recall": {"deadline_ms": 5000}},
        "log": {"level": "warning"},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(changed(raw, changes)), encoding="utf-8")
    return load(file)


def changed(raw: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change values of a configuration, by their dotted paths."""
    for path, value in changes.items():
        *parents, name = path.split("__")
        section: Any = raw
        for parent in parents:
            section = section[int(parent)] if isinstance(section, list) else section.setdefault(parent, {})
        section[name] = value
    return raw


class Running(RunningGateway):
    """A started gateway and a session to talk to it."""

    def __init__(self, gateway: Gateway, url: str, session: aiohttp.ClientSession) -> None:
        super().__init__(gateway, url)
        self.session = session

    @property
    def urls(self) -> Sequence[str]:
        """The addresses of all gateways that share this memory."""
        return [self.url]

    async def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None, raw: bytes | None = None
    ) -> "Reply":
        data = json.dumps(body, ensure_ascii=False).encode() if raw is None else raw
        told = {"content-type": "application/json", **(headers or {})}
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=told) as response:
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> "Reply":
        async with self.session.get(self.url + path, headers=headers) as response:
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def chat(self, text: str, user: str = "ada", session: str = "", **body: Any) -> "Reply":
        headers = {"x-memory-user": user} | ({"x-memory-session": session} if session else {})
        headers |= body.pop("headers", {})
        messages = body.pop("messages", [{"role": "user", "content": text}])
        return await self.post("/v1/chat/completions", {"model": "fake-1", "messages": messages, **body}, headers)

    async def broken_off(self, body: Any, path: str = "/v1/chat/completions") -> bytes:
        """Ask and read the answer, which must end without a good end. What came before is returned."""
        received = bytearray()
        async with self.session.post(self.url + path, json=body) as response:
            try:
                async for piece in response.content.iter_any():
                    received += piece
            except aiohttp.ClientPayloadError:
                return bytes(received)
        raise AssertionError("the answer ended as a whole one does")


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


@asynccontextmanager
async def running_gateway(config: Config, *, wait: bool = True) -> AsyncIterator[Running]:
    """Run a gateway in this process; with the option `--workers` in a process for each worker, and with `--cluster`
    several gateways of which another one serves each request."""
    if worker_count() > 1:
        from tests.fakes.worker_processes import running_processes

        async with running_processes(config.folder) as workers:
            yield workers
        return
    if cluster_count() > 1:
        from tests.cluster.gateways.clustered import running_cluster

        async with running_cluster(config, wait=wait) as gateways:
            yield gateways
        return
    async with aiohttp.ClientSession() as session, running(config, wait=wait) as started:
        yield Running(started.gateway, started.url, session)
