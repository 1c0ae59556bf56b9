"""A gateway, or one of its commands, in a process of its own: to be killed as by a power cut or an operator."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.running import configuration, eventually, worker_count
from tests.fakes.warm import ROOT, start

_STARTING = 30.0


class Process:
    """A started gateway process. `started_in` is how long it took until it answered, in seconds."""

    def __init__(self, process: BaseProcess, url: str, session: aiohttp.ClientSession, log: Path) -> None:
        self.process = process
        self.url = url
        self.session = session
        self.started_in = 0.0
        self._log = log

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        data, given = io.BytesIO(json.dumps(body).encode()), {"content-type": "application/json", **(headers or {})}
        async with self.session.post(self.url + path, data=data, headers=given) as response:
            return response.status, await response.read()

    async def metric(self, name: str) -> float:
        """The sum of a metric's values."""
        async with self.session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))

    async def state(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/ready") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def settled(self, timeout: float = 60) -> None:
        """Wait until all that is in the journal can be found."""

        async def is_settled() -> bool:
            state = await self.state()
            return bool(state["memory"] == "ready" and state["journal_backlog"] == 0)

        await eventually(is_settled, timeout)

    async def texts(self) -> list[str]:
        """The text of every memory."""
        await self.settled()
        async with self.session.get(f"{self.url}/v1/memory/export") as response:
            assert response.status == 200, await response.text()
            return [json.loads(line)["text"] for line in (await response.read()).splitlines()]

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """Its process, and those of its workers."""
        return [self.pid, *children(self.pid)]

    def resident_mib(self) -> float:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def own_mib(self) -> float:
        """Memory that it does not share with files, such as libraries: a copied process reads those bit by bit."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids]
        return sum(int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) for status in statuses) / 1024

    def computed(self) -> float:
        """Seconds of processor time that all its threads have used, in steps of a hundredth."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(values[11]) + int(values[12]) for values in fields) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def kill(self) -> None:
        """Kill it with all its workers, as a power cut would."""
        await stopped(self.process)

    async def terminate(self, timeout: float = 15) -> int | None:
        """Ask it to stop. Returns its exit status; None if it did not stop in time."""
        self.process.terminate()
        await asyncio.to_thread(self.process.join, timeout)
        return self.process.exitcode


@asynccontextmanager
async def running_process(folder: Path, upstream_url: str, **changes: Any) -> AsyncIterator[Process]:
    """A gateway process on the folder `data` in `folder`; killed at the end if it still runs."""
    await asyncio.to_thread(configuration, folder, upstream_url, **changes)
    async with started_process(folder) as gateway:
        yield gateway


@asynccontextmanager
async def started_process(
    folder: Path, *, beside: int | None = None, key: str = "", prepare: Callable[[], None] | None = None
) -> AsyncIterator[Process]:
    """A gateway process with the configuration file in a folder; killed at the end if it still runs. `beside` and
    `prepare`: as of `spawn`; `key`: of the gateway, if it asks for one."""
    process = await asyncio.to_thread(spawn, folder, beside=beside, prepare=prepare)
    began = time.monotonic()  # the first one waited for the process that is copied
    try:
        url = await url_of(process, folder)
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"} if key else None) as session:
            gateway = Process(process, url, session, folder / "gateway.log")
            async with session.get(f"{url}/health") as response:
                assert response.status == 200
            gateway.started_in = time.monotonic() - began
            yield gateway
    finally:
        await stopped(process)


async def stopped(process: BaseProcess) -> None:
    """Kill a process with its children, if it still runs, and wait for their end."""
    pid = process.pid
    workers = list[int]()
    if pid is not None and process.is_alive():
        os.kill(pid, signal.SIGSTOP)  # it starts no other one meanwhile
        workers = children(pid)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    process.kill()
    await asyncio.to_thread(process.join, 10)
    await eventually(lambda: not any(map(is_running, workers)), 10)


def children(pid: int) -> list[int]:
    """The children of a process, the oldest first; none where there is no /proc."""
    numbers = list[int]()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            numbers += map(int, path.read_text().split())
    return numbers


def is_running(pid: int) -> bool:
    """True if a process, or a thread of it, has not ended: until then its files are open, and locks on them are held.
    What is left of one that no process waited for does not count."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops a process for a while, as a machine does that swaps."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def spawn(
    folder: Path, *options: str, beside: int | None = None, prepare: Callable[[], None] | None = None
) -> BaseProcess:
    """Start a gateway with the configuration in a folder, in the namespaces of the process `beside`, after `prepare`;
    with workers if the run has the option `--workers`."""
    output = folder / "gateway.out"
    output.unlink(missing_ok=True)
    arguments = ["serve", "--config", str(folder / "config.yaml"), *options]
    if worker_count() > 1:
        arguments += ["--workers", str(worker_count())]
    return start(arguments, output=output, errors=folder / "gateway.log", beside=beside, prepare=prepare)


async def url_of(process: BaseProcess, folder: Path) -> str:
    """The address that a gateway says it listens at. Raises AssertionError if it stopped."""
    output, addresses = folder / "gateway.out", list[str]()

    def is_listening() -> bool:
        text = output.read_text(encoding="utf-8") if output.exists() else ""
        addresses[:] = re.findall(r"http://[\d.]+:\d+", text)
        assert addresses or process.is_alive(), f"it stopped with {process.exitcode} before it listened"
        return bool(addresses)

    await eventually(is_listening, _STARTING)
    return addresses[0]


async def command(*arguments: str, folder: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The outcome of `gateway ARGUMENTS`, run in `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        output, errors = Path(temporary, "output"), Path(temporary, "errors")
        process = await asyncio.to_thread(
            start, arguments, output=output, errors=errors, folder=folder, environment=environment
        )
        try:
            await asyncio.to_thread(process.join, 60)
            assert process.exitcode is not None, f"{arguments} took longer than a minute"
            texts = (file.read_text(encoding="utf-8") for file in (output, errors))
            return subprocess.CompletedProcess(arguments, process.exitcode, *texts)
        finally:
            await stopped(process)
