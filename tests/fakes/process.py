"""A gateway in a process of its own, to be killed: what a power cut or an operator does to it."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.clients import ROOT
from tests.fakes.running import configuration, eventually

_STARTING = 30.0


class Process:
    """A started gateway process. `started_in` is how long it took until it answered, in seconds."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, session: aiohttp.ClientSession, log: Path) -> None:
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

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def kill(self) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait, 10)

    async def terminate(self, timeout: float = 15) -> int:
        """Ask it to stop. Returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, timeout)


@asynccontextmanager
async def running_process(folder: Path, upstream_url: str, **changes: Any) -> AsyncIterator[Process]:
    """A gateway process on the folder `data` in `folder`; killed at the end if it still runs."""
    await asyncio.to_thread(configuration, folder, upstream_url, **changes)
    began = time.monotonic()
    process = spawn(folder)
    try:
        url = await asyncio.to_thread(url_of, process)
        async with aiohttp.ClientSession() as session:
            made = Process(process, url, session, folder / "gateway.log")
            async with session.get(f"{url}/health") as response:
                assert response.status == 200
            made.started_in = time.monotonic() - began
            yield made
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.wait, 10)
        assert process.stdout is not None
        process.stdout.close()


def spawn(folder: Path, *prefix: str) -> subprocess.Popen[bytes]:
    """Start a gateway with the configuration in a folder; `prefix` is a command that runs it."""
    with (folder / "gateway.log").open("ab") as errors:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "gateway", "serve", "--config", str(folder / "config.yaml")],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200"},
        )


def url_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    for line in iter(process.stdout.readline, b""):
        found = re.search(rb"http://127\.0\.0\.1:\d+", line)
        if found is not None:
            return found.group().decode()
    raise AssertionError(f"it stopped with {process.wait(5)} before it listened")
