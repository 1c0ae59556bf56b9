"""Memories changed a second, through all gateways at once."""

import asyncio
import time

from tests.bench.cluster.setting import ClusterBench
from tests.bench.processes import Server
from tests.bench.results import OWN, Row, format_number, quantile

__all__ = ["measure_edits"]

_WRITERS = 4  # at each gateway


async def measure_edits(bench: ClusterBench) -> list[Row]:
    """Changes a second of texts: one at a time in the whole cluster."""
    place, times = bench.engines.create_place("edits"), list[float]()
    async with bench.engines.gateways(place) as servers:
        end = time.perf_counter() + bench.sizes.edit_seconds
        writers = [
            (server, f"user{place}-{number}") for place, server in enumerate(servers) for number in range(_WRITERS)
        ]
        began = time.perf_counter()
        await asyncio.gather(*(_edit(bench, server, user, end, times) for server, user in writers))
        elapsed = time.perf_counter() - began
    rate = len(times) / elapsed
    note = f"{len(writers)} writers; a change takes {format_number(quantile(times, 0.5) * 1000)} ms at p50"
    note += f", {format_number(quantile(times, 0.99) * 1000)} ms at p99"
    return [Row("memories changed through three gateways", "/s", {OWN: rate}, note)]


async def _edit(bench: ClusterBench, server: Server, user: str, end: float, times: list[float]) -> None:
    """Change a memory of a user again and again."""
    session = bench.engines.session
    async with session.post(f"{server.url}/v1/memory", json={"text": "My parrot is blue.", "user": user}) as response:
        assert response.status == 201, await response.text()
        memory_id = (await response.json())["data"][0]["id"]
    number = 0
    while time.perf_counter() < end:
        number += 1
        began = time.perf_counter()
        body = {"text": f"My parrot has {number} blue feathers."}
        async with session.patch(f"{server.url}/v1/memory/{memory_id}", json=body) as response:
            assert response.status == 200, await response.text()
        times.append(time.perf_counter() - began)
