"""Adding memories: one at a time, many behind one another, and by import."""

import io
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figures.memory_on import MEMORIES, data_of
from tests.bench.processes import Server
from tests.bench.results import OWN, Row, quantile
from tests.bench.setting import Bench
from tests.bench.texts import Texts

__all__ = ["measure_adding", "measure_import"]

_BATCH = 200


async def measure_adding(bench: Bench) -> list[Row]:
    """`/product/add` with one message, waiting for the store and not; and storing batches of 200."""
    waits: dict[str, dict[str, float]] = {"sync": {}, "async": {}}
    rates, notes = dict[str, float](), dict[str, str]()
    async with bench.gateways() as gateways:
        for server in gateways:
            for mode, values in waits.items():
                values[server.label] = await _add_one_by_one(bench, server, mode)
            bench.step(f"add, {server.label}")
        for server in gateways:
            rates[server.label], notes[server.label] = await _drain(bench, server)
            bench.step(f"drain, {server.label}")
    rows = [Row(f"add, {mode}, p50", "ms", values) for mode, values in waits.items()]
    return [*rows, Row("drain", "1/s", rates, notes[OWN])]


async def _add_one_by_one(bench: Bench, server: Server, mode: str) -> float:
    texts = Texts(f"add {mode}")
    for _ in range(5):  # the first ones open tables
        await bench.client.add(server, f"adding-{mode}", [texts.note()], mode=mode)
    times = [
        await bench.client.add(server, f"adding-{mode}", [texts.note()], mode=mode)
        for _ in range(bench.sizes.additions)
    ]
    await bench.client.settle(server)
    return quantile(times, 0.5)


async def _drain(bench: Bench, server: Server) -> tuple[float, str]:
    """Memories a second until all are stored and synced, and the CPU time of each."""
    texts, count = Texts("drain"), bench.sizes.drained
    notes = [texts.note() for _ in range(count)]
    began, before = time.perf_counter(), server.cpu()
    for begin in range(0, count, _BATCH):
        await bench.client.add(server, "draining", notes[begin : begin + _BATCH], mode="async")
    await bench.client.settle(server)
    return count / (time.perf_counter() - began), _cost(server, before, count)


async def measure_import(bench: Bench) -> list[Row]:
    """Import of an export, until everything is stored and synced; with vectors if the export has them."""
    notes = dict[str, str]()
    rates: dict[str, dict[str, float]] = {"import, without vectors": {}, "import, with vectors": {}}
    async with bench.gateways(data_of(bench)) as gateways:
        for server in gateways:
            for name, option in (("import, without vectors", ()), ("import, with vectors", ("--vectors",))):
                if option and "--vectors" not in _command(server, "export", "--help"):
                    continue
                file = bench.folder / "export.jsonl"
                rates[name][server.label], note = await _import(bench, server, file, option)
                notes.setdefault(name, note)
                bench.step(f"{name}, {server.label}")
    return [Row(name, "1/s", values, notes[name]) for name, values in rates.items() if values]


async def _import(bench: Bench, server: Server, file: Path, options: tuple[str, ...]) -> tuple[float, str]:
    """Memories a second, and the CPU time of each. They go to another tenant, where each is a memory of its own."""
    texts, lines = Texts("import"), list[bytes]()
    for number in range(-(-bench.sizes.imported // MEMORIES)):
        await bench.client.ask(server, texts.note(), user=f"bench{number}")  # which makes the user known
        _command(server, "export", *options, "--user", f"bench{number}", "--url", server.url, str(file))
        lines += file.read_bytes().splitlines(keepends=True)
    lines = lines[: bench.sizes.imported]
    assert len(lines) == bench.sizes.imported, len(lines)
    tenant = "with-vectors" if options else "without-vectors"
    began, before = time.perf_counter(), server.cpu()
    async with bench.client.session.post(
        f"{server.url}/v1/memory/import", params={"tenant": tenant}, data=io.BytesIO(b"".join(lines))
    ) as response:
        answer = await response.read()
        assert response.status == 200, answer[:300]
    await bench.client.settle(server)
    return len(lines) / (time.perf_counter() - began), _cost(server, before, len(lines))


def _cost(server: Server, before: float, count: int) -> str:
    return f"{(server.cpu() - before) * 1000 / count:.2f} CPU-ms each"


def _command(server: Server, *arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", "memory", *arguments]
    return subprocess.run(command, cwd=server.root, check=True, capture_output=True, text=True).stdout
