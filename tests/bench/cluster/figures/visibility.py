"""How soon a new memory is recalled through another gateway."""

import asyncio
import time

from tests.bench.cluster.engines import ask, is_recalled
from tests.bench.cluster.setting import ClusterBench
from tests.bench.processes import Server
from tests.bench.results import OWN, Row, format_number, quantile

__all__ = ["measure_visibility"]

_USERS = 16
_POLLING = 0.004
_LONGEST = 20.0  # seconds until a memory counts as never recalled


async def measure_visibility(bench: ClusterBench) -> list[Row]:
    """Milliseconds from the end of an answer until another gateway recalls what was said."""
    place = bench.engines.create_place("visibility")
    async with bench.engines.gateways(place) as servers:
        for server in servers:
            for user in range(_USERS):
                await ask(bench.engines.session, server, f"user{user}", "Hello there.", mode="read")
        times = [await _measure(bench, servers, number) for number in range(bench.sizes.samples)]
    note = f"{len(times)} samples; the longest {format_number(max(times))} ms"
    name = "new memory recalled by another gateway"
    return [Row(f"{name}, p{share * 100:.0f}", "ms", {OWN: quantile(times, share)}, note) for share in (0.5, 0.99)]


async def _measure(bench: ClusterBench, servers: list[Server], number: int) -> float:
    speaker, listener = servers[number % 3], servers[(number + 1 + number // 3 % 2) % 3]
    user, word = f"user{number % _USERS}", f"zanzibar{number}x"
    await ask(bench.engines.session, speaker, user, f"My parrot number {number} is called {word}.")
    began = time.perf_counter()
    question = f"What is my parrot number {number} called?"
    while not await is_recalled(bench.engines.session, listener, user, question, word):
        assert time.perf_counter() - began < _LONGEST, f"{listener.label} does not recall a memory"
        await asyncio.sleep(_POLLING)
    return (time.perf_counter() - began) * 1000
