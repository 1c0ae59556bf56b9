"""One worker against two: requests a second in the same rounds, and how soon a memory and a deletion are in both."""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import orjson

from tests.bench.light import CONNECTIONS
from tests.bench.processes import ROOT, Server, free_port, spawn, wait_until
from tests.bench.results import Row, quantile, ratio
from tests.bench.setting import Bench, Variant
from tests.fakes.worker_processes import Pinned, pinned_to_each

__all__ = ["SHARED_USERS", "data_shared", "measure_workers"]

SHARED_USERS = 40
_WORKERS = 2
_TWO = " two"
_POLLING = 0.004
_LONGEST = 10.0  # seconds until a memory counts as never visible


def data_shared(bench: Bench) -> Path:
    """The data folder with the users of these figures."""
    return bench.folder / "shared"


async def measure_workers(bench: Bench) -> list[Row]:
    """Requests a second of two workers as the ratio to one; milliseconds until a memory or a deletion is in both."""
    port = free_port()
    upstream = Server("light upstream", port, spawn("tests.bench.light", "upstream", str(port)))
    try:
        await wait_until(bench.client.session, upstream, "/nothing", b"chatcmpl")
        rates = [await _measure_rates(bench, upstream, has_memory=has_memory) for has_memory in (False, True)]
        return [*rates, *await _measure_visibility(bench, upstream)]
    finally:
        await asyncio.to_thread(upstream.stop)


@asynccontextmanager
async def _gateways(bench: Bench, upstream: Server, data: Path | None) -> AsyncIterator[list[Server]]:
    """Gateways with one worker and with two, of each process of the working tree."""
    async with AsyncExitStack() as stack:
        servers = []
        for variant in bench.variants:
            if variant.root == ROOT:
                start = bench.gateway(variant, data, has_memory=data is not None, upstream=upstream)
                servers.append(await stack.enter_async_context(start))
                servers.append(await stack.enter_async_context(_two(bench, upstream, variant, data)))
        yield servers


@asynccontextmanager
async def _two(bench: Bench, upstream: Server, variant: Variant, data: Path | None) -> AsyncIterator[Server]:
    """A gateway with two workers, both ready."""
    named = Variant(variant.label + _TWO, variant.root)
    async with bench.gateway(named, data, has_memory=data is not None, upstream=upstream, workers=_WORKERS) as server:
        deadline = time.monotonic() + 60
        while not await _are_ready(bench.client.session, server):
            assert time.monotonic() < deadline, "a worker does not start"
            await asyncio.sleep(0.1)
        yield server


async def _are_ready(session: aiohttp.ClientSession, server: Server) -> bool:
    async with session.get(f"{server.url}/ready") as response:
        workers = (await response.json()).get("workers", [])
    return len(workers) == _WORKERS and all(worker["memory"] == "ready" for worker in workers)


async def _measure_rates(bench: Bench, upstream: Server, *, has_memory: bool) -> Row:
    name = f"2 workers, requests a second, memory {'on' if has_memory else 'off'}"
    rates = defaultdict[str, list[float]](list)
    seconds = float(bench.sizes.steady_seconds)

    async def measure(server: Server, number: int) -> None:
        options = {"connections": CONNECTIONS, "users": SHARED_USERS if has_memory else 0, "seed": f"workers {number}"}
        result = await _load(server.port, seconds if number else 1.0, options)
        assert not result["failures"], (server.label, result)
        if has_memory:
            await bench.client.settle(server)
        if number:
            rates[server.label].append(result["per_second"])

    async with _gateways(bench, upstream, data_shared(bench) if has_memory else None) as servers:
        await bench.in_rounds(name, servers, measure)
    values = {label: ratio(rates[label + _TWO], rates[label]) for label in rates if not label.endswith(_TWO)}
    medians = ", ".join(f"{label}: {quantile(values, 0.5):,.0f}/s" for label, values in rates.items())
    return Row(name, "× one", values, medians)


async def _load(port: int, seconds: float, options: dict[str, object]) -> dict[str, float]:
    """The result of a load, which is a process of its own."""
    arguments = ("-m", "tests.bench.light", "load", str(port), str(seconds), json.dumps(options))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    result: dict[str, float] = orjson.loads(output)
    return result


async def _measure_visibility(bench: Bench, upstream: Server) -> list[Row]:
    visible = dict[str, list[float]]()
    deletions = dict[str, list[float]]()
    recalled = dict[str, float]()
    async with AsyncExitStack() as stack:
        for variant in bench.variants:
            if variant.root != ROOT:
                continue
            server = await stack.enter_async_context(_two(bench, upstream, variant, data_shared(bench)))
            connections = list((await stack.enter_async_context(pinned_to_each(server))).values())
            label = variant.label
            visible[label], deletions[label], recalled[label] = [], [], 0.0
            for number in range(bench.sizes.additions):
                visible[label] += await _add(connections, number)
                deletions[label].append(await _delete(server, connections[0], number))
                recalled[label] += sum([await _finds(connection, number) for connection in connections])
            bench.step(f"visibility, {label}")
    rows = []
    for name, samples in (("new memory visible in each", visible), ("deletion applied in each", deletions)):
        for share in (0.5, 0.99):
            values = {label: quantile(times, share) for label, times in samples.items()}
            rows.append(Row(f"2 workers, {name}, p{share * 100:.0f}", "ms", values))
    return [*rows, Row("2 workers, recalled after a deletion", "", recalled)]


async def _add(connections: list[Pinned], number: int) -> list[float]:
    """Say something to one worker. The milliseconds from the end of the answer until each recalls it."""
    speaker = connections[number % len(connections)]
    status, answer = await speaker.chat(f"My parrot number {number} is called zanzibar{number}x.", "bench0")
    assert status == 200, answer
    began = time.perf_counter()

    async def wait(connection: Pinned) -> float:
        while not await _finds(connection, number):
            assert time.perf_counter() - began < _LONGEST, "a memory is not recalled"
            await asyncio.sleep(_POLLING)
        return (time.perf_counter() - began) * 1000

    return await asyncio.gather(*map(wait, connections))


async def _finds(connection: Pinned, number: int) -> bool:
    """True if a worker recalls a memory."""
    question = f"What is my parrot number {number} called?"
    status, answer = await connection.chat(question, "bench0", mode="read", model=f"find-zanzibar{number}x")
    assert status == 200, answer
    return bool(orjson.loads(answer)["choices"][0]["message"]["content"] != "0")


async def _delete(server: Server, connection: Pinned, number: int) -> float:
    """Delete a memory. The milliseconds until the answer, which comes when each worker has applied it."""
    question = f"What is my parrot number {number} called?"
    body = {"user_id": "bench0", "query": question, "relativity": 0}
    async with connection.session.post(f"{server.url}/product/search", json=body) as response:
        groups = (await response.json())["data"]["text_mem"]
    items = [item for group in groups for item in group["memories"]]
    ids = [item["id"] for item in items if f"zanzibar{number}x" in item["memory"]]
    body = {"memory_ids": ids, "writable_cube_ids": ["bench0"]}
    began = time.perf_counter()
    async with connection.session.post(f"{server.url}/product/delete_memory", json=body) as response:
        assert response.status == 200, await response.read()
    return (time.perf_counter() - began) * 1000
