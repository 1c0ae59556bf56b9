"""What a benchmarked cluster runs on: PostgreSQL, an S3 server behind a proxy, and an upstream; and its gateways."""

import asyncio
import shutil
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from gateway.storage.postgres.names import SCHEMA
from tests.bench.cluster.proxy import Proxy, running_proxy
from tests.bench.processes import ROOT, Server, free_port, spawn, start_gateway, wait_until
from tests.bench.setting import READY
from tests.cluster.postgres import PostgresServer
from tests.fakes.running import eventually
from tests.fakes.s3 import ACCESS_KEY, SECRET_KEY, S3Server, running_s3

__all__ = ["Engines", "Place", "ask", "gateway_of", "is_recalled", "read_state", "running_engines"]

_JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the memory of a cluster is: a database, and an address on S3."""

    database_url: str
    uri: str

    def memory(self, endpoint: str, **changes: Any) -> dict[str, Any]:
        """The configuration of a memory there, by the S3 server at `endpoint`."""
        keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        storage = {"endpoint": endpoint, "region": "us-east-1", "allow_http": True, **keys}
        return {"uri": self.uri, "database": self.database_url, "storage": storage, **changes}


@dataclass(frozen=True, slots=True)
class Engines:
    """Running servers. `folder`: for configurations and logs."""

    folder: Path
    postgres: PostgresServer
    s3: S3Server
    bucket: str
    proxy: Proxy
    upstream: Server
    session: aiohttp.ClientSession

    def create_place(self, name: str) -> Place:
        """An empty place."""
        return Place(self.postgres.create_database(), f"s3://{self.bucket}/{name}")

    async def query(self, place: Place, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query in the schema of the gateway."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(place.database_url, autocommit=True) as connection:
            await connection.execute(f"SET search_path TO {SCHEMA}".encode())
            return await (await connection.execute(statement, values)).fetchall()  # type: ignore[arg-type,no-any-return,unused-ignore]  # no user text

    @asynccontextmanager
    async def gateways(self, place: Place, count: int = 3, **changes: Any) -> AsyncIterator[list[Server]]:
        """Gateways on a place, until each has its share of the buckets. `changes` are of their memory."""
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(self._gateway(f"gateway {number}", place, changes))
                for number in range(count)
            ]
            await eventually(lambda: self._is_shared_out(servers), 60)
            yield servers

    @asynccontextmanager
    async def _gateway(self, label: str, place: Place, changes: Mapping[str, Any]) -> AsyncIterator[Server]:
        folder = self.folder / place.uri.rpartition("/")[2] / label.replace(" ", "-")
        memory = place.memory(self.proxy.url, **changes)
        server = start_gateway(label, ROOT, folder, self.upstream.port, memory=memory)
        try:
            await wait_until(self.session, server, "/ready", READY)
            yield server
        finally:
            await asyncio.to_thread(server.stop)

    async def _is_shared_out(self, servers: Sequence[Server]) -> bool:
        states = [(await read_state(self.session, server))["cluster"] for server in servers]
        owned, buckets = [state["owned_buckets"] for state in states], states[0]["buckets"]
        return bool(sum(owned) == buckets and min(owned) >= buckets // len(servers) - len(servers) + 1)


@asynccontextmanager
async def running_engines(folder: Path) -> AsyncIterator[Engines]:
    """Start the servers."""
    async with AsyncExitStack() as stack:
        s3_folder = folder / "s3"
        s3_folder.mkdir()
        stack.callback(shutil.rmtree, s3_folder, ignore_errors=True)
        s3 = stack.enter_context(running_s3(s3_folder))
        postgres = stack.enter_context(PostgresServer())
        proxy = await stack.enter_async_context(running_proxy(s3.url))
        port = free_port()
        upstream = Server("upstream", port, spawn("tests.bench.light", "upstream", str(port)))
        stack.callback(upstream.stop)
        timeout = aiohttp.ClientTimeout(total=120)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        await wait_until(session, upstream, "/nothing", b"chatcmpl")
        yield Engines(folder, postgres, s3, s3.create_bucket(), proxy, upstream, session)


def gateway_of(user: str, count: int) -> int:
    """The gateway that a load balancer sends a user to, of so many."""
    return zlib.crc32(user.encode()) % count


async def read_state(session: aiohttp.ClientSession, server: Server) -> Any:
    """The answer of `/ready`."""
    async with session.get(f"{server.url}/ready") as response:
        return await response.json()


async def ask(
    session: aiohttp.ClientSession, server: Server, user: str, text: str, *, model: str = "light", mode: str = "on"
) -> tuple[str, Mapping[str, str]]:
    """One chat. The text of the answer, and the headers."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    headers = {**_JSON, "x-memory-user": user, "x-memory-session": "bench", "x-memory-mode": mode}
    url = f"{server.url}/v1/chat/completions"
    async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
        answer = await response.read()
        assert response.status == 200, (server.label, response.status, answer)
        return orjson.loads(answer)["choices"][0]["message"]["content"], response.headers


async def is_recalled(session: aiohttp.ClientSession, server: Server, user: str, question: str, word: str) -> bool:
    """True if a gateway puts a memory with this word into a prompt."""
    content, _ = await ask(session, server, user, question, model=f"find-{word}", mode="read")
    return content != "0"


def count_requests(counts: Counter[str]) -> str:
    """Requests by kind as text."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
