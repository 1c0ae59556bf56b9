"""The gateway against a bare pass-through, in one run, as ratios. `make bench`.

Each server is a process of its own; what counts is the CPU time that its process took, since machines are shared and
clocks lie. Rounds are interleaved. Linux only: CPU time and memory are read from /proc.
"""

import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

_TICK = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).parents[2]
_MEMORIES = 2000
_ROUNDS = 6
_REQUESTS = {"plain": 2400, "stream": 400}
_REQUESTS_WITH_MEMORY = {"plain": 240, "stream": 60}
_LATENCIES = 60
_AT_ONCE = 8
_TOPICS = ("garden", "train", "violin", "recipe", "invoice", "holiday", "doctor", "football", "novel", "bicycle")
_PLACES = ("Lisbon", "Graz", "Oslo", "Kyoto", "Lima", "Accra", "Perth", "Quito")


@dataclass
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    has_memory: bool = False
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)
    latency_ms: dict[str, list[float]] = field(default_factory=dict)

    def cpu(self) -> float:
        """CPU seconds of the process so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL)


def gateway(name: str, folder: Path, upstream: int, *, has_memory: bool) -> Server:
    folder.mkdir(exist_ok=True)
    port = free_port()
    config = {
        "server": {"port": port},
        "upstreams": [{"name": "bench", "base_url": f"http://127.0.0.1:{upstream}/v1"}],
        "memory": {"uri": "./data"},
        "plugins": [{"use": "redact"}],
        "log": {"level": "warning"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    process = spawn("gateway", "serve", "--config", str(folder / "config.yaml"))
    return Server(name, port, process, has_memory)


async def wait_for(session: aiohttp.ClientSession, url: str, recall_options: bytes = b"") -> float:
    began = time.perf_counter()
    while time.perf_counter() - began < 30:
        try:
            async with session.get(url) as response:
                if recall_options in await response.read():
                    return time.perf_counter() - began
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
    raise TimeoutError(url)


def question(number: int) -> str:
    topic, place = _TOPICS[number % len(_TOPICS)], _PLACES[number // 7 % len(_PLACES)]
    return f"What did I tell you about the {topic} in {place}, number {number}?"


def note(number: int) -> str:
    topic, place, other = _TOPICS[number % 10], _PLACES[number % 8], _TOPICS[number * 7 % 10]
    cost = f"of {other}s and of what it costs, about {number * 3} euros."
    return f"About the {topic} in {place}: note {number}, we spoke of the weather there, {cost}"


async def ask(session: aiohttp.ClientSession, server: Server, number: int, *, stream: bool) -> float:
    body = {"model": "bench", "stream": stream, "messages": [{"role": "user", "content": question(number)}]}
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    headers = {"content-type": "application/json"}
    if server.has_memory:
        # a user for each round, so that what is stored on the way does not make the next round larger
        headers |= {"x-memory-user": f"bench{number // 10_000}", "x-memory-session": f"s{number % 50}"}
    began = time.perf_counter()
    async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
        await response.read()
        assert response.status == 200, response.status
    return (time.perf_counter() - began) * 1000


async def load(session: aiohttp.ClientSession, server: Server, kind: str, offset: int) -> None:
    """One measurement: CPU per request at some concurrency, with what happens behind (storing) waited for."""
    count = (_REQUESTS_WITH_MEMORY if server.has_memory else _REQUESTS)[kind]
    if server.has_memory:  # the user's working set is loaded before the clock runs
        await ask(session, server, offset, stream=False)
        await asyncio.sleep(0.5)
    before = server.cpu()
    await work(session, server, kind, range(offset, offset + count))
    await asyncio.sleep(1.0 if server.has_memory else 0.1)
    server.cpu_ms.setdefault(kind, []).append((server.cpu() - before) * 1000 / count)


async def work(session: aiohttp.ClientSession, server: Server, kind: str, numbers: Iterable[int]) -> None:
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await ask(session, server, number, stream=kind == "stream")

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


async def measure(session: aiohttp.ClientSession, servers: list[Server], kind: str, number: int) -> None:
    """A round: those without memory side by side, another one first each time; then the one with memory, which pauses
    while it stores. What follows a pause is measured too cheap, so something that does not count goes first."""
    bare, off, on = servers
    await work(session, bare, kind, range(_REQUESTS[kind] // 4))
    for server in (bare, off) if number % 2 else (off, bare):
        await load(session, server, kind, number * 10_000)
    await load(session, on, kind, number * 10_000)


async def latency(session: aiohttp.ClientSession, server: Server, offset: int) -> None:
    """One connection, one request after the other."""
    for number in range(offset, offset + _LATENCIES):
        server.latency_ms.setdefault("plain", []).append(await ask(session, server, number, stream=False))


async def fill(session: aiohttp.ClientSession, server: Server, user: str) -> None:
    url = f"http://127.0.0.1:{server.port}/product/add"
    for begin in range(0, _MEMORIES, 200):
        messages = [{"role": "user" if n % 2 else "assistant", "content": note(n)} for n in range(begin, begin + 200)]
        body = {"user_id": user, "session_id": f"fill{begin}", "messages": messages, "async_mode": "async"}
        async with session.post(url, data=orjson.dumps(body)) as response:
            assert response.status == 200, await response.text()
    await wait_for(session, f"http://127.0.0.1:{server.port}/ready", b'"journal_backlog":0')


async def cold_recall(session: aiohttp.ClientSession, server: Server) -> tuple[float, str]:
    """Milliseconds of the first recall of a user with many memories, after a restart."""
    body = {"model": "bench", "messages": [{"role": "user", "content": "Tell me about the violin in Oslo"}]}
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    headers = {"content-type": "application/json", "x-memory-user": "bench0", "x-memory-mode": "read"}
    async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
        await response.read()
        return float(response.headers["x-gateway-overhead-ms"]), response.headers["x-memory-status"]


def recall_quantiles(page: str) -> str:
    """p50 and p99 of the recall stage from the histogram, as upper bounds of their buckets."""
    counts = []
    for line in page.splitlines():
        if line.startswith('gateway_stage_seconds_bucket{le="') and 'stage="recall"' in line:
            bound = line.partition('le="')[2].partition('"')[0]
            counts.append((float(bound) if bound != "+Inf" else float("inf"), float(line.rpartition(" ")[2])))
    counts.sort()
    total = counts[-1][1]
    found = [next(bound for bound, count in counts if count >= share * total) * 1000 for share in (0.5, 0.99)]
    return f"<= {found[0]:g} / <= {found[1]:g}"


def table(servers: list[Server]) -> Table:
    base = servers[0]
    made = Table(title="CPU of the process per request, ms (ratio to bare: median of the rounds)")
    for name in ("server", "plain", "ratio", "stream of 100", "ratio", "latency p50 / p95, ms", "resident, MiB"):
        made.add_column(name, justify="left" if name == "server" else "right")
    for server in servers:
        row = [server.name]
        for kind in ("plain", "stream"):
            ratios = [own / bare for own, bare in zip(server.cpu_ms[kind], base.cpu_ms[kind], strict=True)]
            row += [f"{statistics.median(server.cpu_ms[kind]):.2f}", f"{statistics.median(ratios):.2f}"]
        ordered = sorted(server.latency_ms["plain"])
        row.append(f"{ordered[len(ordered) // 2]:.2f} / {ordered[int(len(ordered) * 0.95)]:.2f}")
        row.append(f"{server.resident_mib():.0f}")
        made.add_row(*row)
    return made


async def run(folder: Path, console: Console) -> None:
    upstream_port, bare_port = free_port(), free_port()
    processes = [spawn("tests.bench.servers", "upstream", str(upstream_port))]
    bare = Server("bare", bare_port, spawn("tests.bench.servers", "bare", str(bare_port), str(upstream_port)))
    off = gateway("gateway, memory off", folder / "off", upstream_port, has_memory=False)
    on = gateway(f"gateway, {_MEMORIES} memories", folder / "on", upstream_port, has_memory=True)
    servers = [bare, off, on]
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            for server in (off, on):
                await wait_for(session, f"http://127.0.0.1:{server.port}/ready", b'"memory":"ready"')
            await wait_for(session, f"http://127.0.0.1:{bare_port}/x")
            for number in range(_ROUNDS + 1):
                await fill(session, on, f"bench{number}")
            on.process.send_signal(signal.SIGTERM)
            on.process.wait(20)
            began = time.perf_counter()
            servers[2] = on = gateway(on.name, folder / "on", upstream_port, has_memory=True)
            await wait_for(session, f"http://127.0.0.1:{on.port}/health")
            first = time.perf_counter() - began
            await wait_for(session, f"http://127.0.0.1:{on.port}/ready", b'"memory":"ready"')
            ready = time.perf_counter() - began
            idle = on.resident_mib()
            cold, status = await cold_recall(session, on)
            with Progress(console=console) as progress:
                task = progress.add_task("rounds", total=_ROUNDS * 5)
                for number in range(_ROUNDS + 1):
                    for kind in ("plain", "stream"):
                        await measure(session, servers, kind, number)
                        progress.advance(task)
                    for server in servers:
                        await latency(session, server, number * 10_000 + 5_000)
                        progress.advance(task)
                    if number == 0:  # the first round warms up
                        progress.reset(task)
                        for server in servers:
                            server.cpu_ms.clear()
                            server.latency_ms.clear()
            async with session.get(f"http://127.0.0.1:{on.port}/metrics") as response:
                quantiles = recall_quantiles(await response.text())
        console.print(table(servers))
        extra = statistics.median(on.cpu_ms["plain"]) - statistics.median(bare.cpu_ms["plain"])
        console.print(f"memory on costs {extra:.2f} CPU-ms per request more than bare, storing included")
        console.print(f"recall with embedding, p50 / p99 ms: {quantiles}")
        console.print(f"first recall of a cold user with {_MEMORIES} memories: {cold:.0f} ms ({status})")
        console.print(f"start: answers after {first:.2f} s, memory ready after {ready:.2f} s; idle {idle:.0f} MiB")
    finally:
        for server in servers:
            server.process.terminate()
        for process in processes:
            process.terminate()
        for process in [*processes, *(server.process for server in servers)]:
            process.wait(20)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    try:
        asyncio.run(run(folder, Console(width=140)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
