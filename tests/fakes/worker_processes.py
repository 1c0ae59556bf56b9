"""A gateway with workers under test: its processes, which of them serves a connection, and which one owns the store.

Linux only: it reads /proc.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from tests.fakes.process import Process, children, started_process
from tests.fakes.running import Running, eventually, worker_count

_LISTENS = 0x10000  # flag of a Unix socket that accepts connections
_SETTLED = 3  # answers in a row without a backlog: an entry of another worker is counted a moment later


class RunningWorkers(Running):
    """A gateway with workers and a session to talk to it. Tests that reach into a gateway cannot use it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = process.url
        self.session = process.session

    async def finished(self, timeout: float = 60) -> None:
        await self.settled(timeout)

    async def settled(self, timeout: float = 60) -> None:
        """Wait until the owner has stored all that was said."""
        answers = 0

        async def is_settled() -> bool:
            nonlocal answers
            state = await self.process.state()
            is_stored = state.get("memory") in ("ready", "off") and not state.get("journal_backlog")
            answers = answers + 1 if is_stored else 0
            await asyncio.sleep(0.05)
            return answers >= _SETTLED

        await eventually(is_settled, timeout)


@asynccontextmanager
async def running_processes(folder: Path) -> AsyncIterator[RunningWorkers]:
    """Run a gateway with the configuration file in a folder, until all its workers are ready."""
    async with started_process(folder) as process:
        await all_ready(process)
        yield RunningWorkers(process)


async def all_ready(process: Process, timeout: float = 60) -> None:
    """Wait until every worker answers chats, and has its memory."""

    async def are_ready() -> bool:
        try:
            workers = (await process.state()).get("workers", [])
        except aiohttp.ClientError:
            return False
        # a worker that does not reach the owner tells of itself only
        return len(workers) == worker_count() and all(
            worker["state"] == "ready" and worker["memory"] in ("ready", "off") for worker in workers
        )

    await eventually(are_ready, timeout)


class Supervised(Protocol):
    """A gateway with workers: its address, and the process that has started them."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...


def owner_of(gateway: Supervised) -> int:
    """The process id of the worker that owns the store: the others connect to it."""
    listening = set[str]()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and int(fields[3], 16) & _LISTENS:
            listening.add(fields[6])
    (owner,) = [pid for pid in worker_pids(gateway) if listening & _sockets(pid)]
    return owner


def worker_pids(gateway: Supervised) -> list[int]:
    return children(gateway.pid)


def serving_pid(gateway: Supervised, connection: socket.socket) -> int | None:
    """The worker at the other end of a connection; None if it is closed there."""
    local, remote = (f"{address[1]:04X}" for address in (connection.getsockname(), connection.getpeername()))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{remote}") and fields[2].endswith(f":{local}"):
            return next((pid for pid in worker_pids(gateway) if fields[9] in _sockets(pid)), None)
    return None


def _sockets(pid: int) -> set[str]:
    """The numbers of a process's sockets."""
    numbers = set[str]()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return numbers
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # it was closed meanwhile
        numbers.update(re.findall(r"^socket:\[(\d+)\]$", target))
    return numbers


class Pinned:
    """A session whose one connection goes to one worker, `pid`."""

    def __init__(self, gateway: Supervised) -> None:
        self._gateway = gateway
        self._socket: socket.socket | None = None
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=50, socket_factory=self._connect)
        self.session = aiohttp.ClientSession(connector=connector)

    @property
    def pid(self) -> int | None:
        return None if self._socket is None else serving_pid(self._gateway, self._socket)

    def _connect(self, address: Any) -> socket.socket:
        family, kind, protocol, _, _ = address
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        return self._socket

    async def get(self, path: str) -> tuple[int, bytes]:
        async with self.session.get(self._gateway.url + path) as response:
            return response.status, await response.read()

    async def chat(self, text: str, user: str, mode: str = "on", model: str = "m") -> tuple[int, bytes]:
        body = {"model": model, "user": user, "messages": [{"role": "user", "content": text}]}
        headers, url = {"x-memory-mode": mode}, f"{self._gateway.url}/v1/chat/completions"
        async with self.session.post(url, json=body, headers=headers) as response:
            return response.status, await response.read()


@asynccontextmanager
async def pinned_to_each(gateway: Supervised, timeout: float = 30) -> AsyncIterator[dict[int, Pinned]]:
    """A connection to each worker, by process id."""
    async with AsyncExitStack() as stack:
        pinned = dict[int, Pinned]()
        deadline = time.monotonic() + timeout
        while set(worker_pids(gateway)) - pinned.keys():
            assert time.monotonic() < deadline, "no connection reached some of the workers"
            connection = Pinned(gateway)
            stack.push_async_callback(connection.session.close)
            await connection.get("/health")
            pid = connection.pid
            if pid is not None:
                pinned.setdefault(pid, connection)
        yield pinned
