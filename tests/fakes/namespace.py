"""A network namespace with two ways to this machine, of which a test can cut one: then packets vanish."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.fakes.running import eventually

__all__ = ["Namespace", "running_namespace"]

_NETWORK = "198.18"  # for tests of networks (RFC 2544): used by no other one


@dataclass(frozen=True)
class Namespace:
    """`pid`: a process in it. Each way has an address at this machine and one inside: `engines` can be cut, `front`
    stays."""

    pid: int
    engines: tuple[str, str]
    front: tuple[str, str]

    async def cut(self) -> None:
        """Drop the answers to what comes by the way to the engines."""
        await _run("ip", "route", "add", "blackhole", f"{self.engines[1]}/32")

    async def join(self) -> None:
        await _run("ip", "route", "del", "blackhole", f"{self.engines[1]}/32")


@asynccontextmanager
async def running_namespace() -> AsyncIterator[Namespace]:
    """A namespace; the test is skipped where none can be created."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        pytest.skip("network namespaces need root, and the programs ip, unshare and nsenter")
    holder = await asyncio.to_thread(subprocess.Popen, ["unshare", "--net", "sleep", "600"])
    number = holder.pid % 256
    namespace = Namespace(
        holder.pid,
        (f"{_NETWORK}.{number}.1", f"{_NETWORK}.{number}.2"),
        (f"{_NETWORK}.{number}.5", f"{_NETWORK}.{number}.6"),
    )
    names = (f"mg{holder.pid}e", f"mg{holder.pid}f")
    try:
        await eventually(lambda: _is_apart(holder.pid))
        try:
            for name, addresses in zip(names, (namespace.engines, namespace.front), strict=True):
                await _connect(holder.pid, name, *addresses)
        except subprocess.CalledProcessError:
            pytest.skip("network devices cannot be created here")
        yield namespace
    finally:
        holder.kill()
        await asyncio.to_thread(holder.wait, 10)
        for name in names:  # else they stay until the kernel has removed the namespace
            await _run("ip", "link", "del", name, check=False)
        await _run("ip", "route", "del", "blackhole", f"{namespace.engines[1]}/32", check=False)


def _is_apart(pid: int) -> bool:
    return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")


async def _connect(pid: int, name: str, outside: str, inside: str) -> None:
    await _run("ip", "link", "add", name, "type", "veth", "peer", "name", "way", "netns", str(pid))
    await _run("ip", "address", "add", f"{outside}/30", "dev", name)
    await _run("ip", "link", "set", name, "up")
    within = ("nsenter", "--target", str(pid), "--net", "ip")
    await _run(*within, "link", "set", "way", "name", name)
    await _run(*within, "address", "add", f"{inside}/30", "dev", name)
    await _run(*within, "link", "set", name, "up")
    await _run(*within, "link", "set", "lo", "up")


async def _run(*command: str, check: bool = True) -> None:
    await asyncio.to_thread(subprocess.run, command, check=check, capture_output=True, timeout=10)
