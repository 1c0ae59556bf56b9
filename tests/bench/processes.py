"""Processes under measurement: started, waited for and stopped; their CPU time and memory, of children too.

Linux only: CPU time and memory are read from /proc.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

__all__ = ["ROOT", "Server", "free_port", "spawn", "start_gateway", "wait_until"]

ROOT = Path(__file__).parents[2]
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOPPING = 40.0  # seconds
_POLLING = 0.01


@dataclass
class Server:
    """A process that listens on a port. `has_memory`: its requests name a user."""

    label: str
    port: int
    process: subprocess.Popen[bytes]
    root: Path = ROOT
    has_memory: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu(self) -> float:
        """CPU seconds so far, user and system, of the process and all its descendants."""
        return sum(_cpu_of(pid) for pid in _tree(self.process.pid))

    def resident_mib(self) -> float:
        """Resident memory of the process and its descendants."""
        pages = 0
        for pid in _tree(self.process.pid):
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue  # it has just ended
        return pages * _PAGE / 2**20

    def stop(self) -> None:
        """Ask the process to stop, and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            numbers = children.read_text().split()
        except OSError:
            continue  # a thread that has just ended
        for child in numbers:
            yield from _tree(int(child))


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process, and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(*arguments: str, root: Path = ROOT, errors: Path | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m ARGUMENTS` with the code in `root`; its standard error goes to the file `errors`."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", *arguments]
    if errors is None:
        return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
    with errors.open("ab") as file:
        return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=file)


def start_gateway(
    label: str,
    root: Path,
    folder: Path,
    upstream_port: int,
    *,
    has_memory: bool = True,
    is_traced: bool = False,
    workers: int = 1,
    memory: Mapping[str, Any] | None = None,
) -> Server:
    """Start a gateway as it is shipped (log lines, the redact plugin), on the data in `folder`. `is_traced`: it exports
    traces to the upstream, which takes them. `memory`: another configuration of the memory."""
    folder.mkdir(exist_ok=True, parents=True)
    port = free_port()
    config: dict[str, Any] = {
        "server": {"port": port},
        "upstreams": [{"name": "bench", "base_url": f"http://127.0.0.1:{upstream_port}/v1"}],
        "memory": {"uri": "./data"} if memory is None else dict(memory),
        "plugins": [{"use": "redact"}],
    }
    if workers > 1:
        config["server"]["workers"] = workers
    if is_traced:
        config["otel"] = {"enabled": True, "endpoint": f"http://127.0.0.1:{upstream_port}"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = ("gateway", "serve", "--config", str(folder / "config.yaml"))
    process = spawn(*command, root=root, errors=folder / "gateway.log")
    return Server(label, port, process, root, has_memory)


async def wait_until(session: aiohttp.ClientSession, server: Server, path: str, text: bytes, limit: float = 60) -> None:
    """Wait until the answer of a path contains a text."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.label} stopped with {server.process.returncode}")
        try:
            async with session.get(server.url + path) as response:
                if text in await response.read():
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(_POLLING)
    raise TimeoutError(f"{server.label}: {path}")
