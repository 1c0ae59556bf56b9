"""The first chat of users whose memories are on object storage only."""

import asyncio

from tests.bench.cluster.engines import ask, count_requests
from tests.bench.cluster.proxy import DELAYS
from tests.bench.cluster.setting import ClusterBench
from tests.bench.results import OWN, Row, format_number, quantile
from tests.fakes.running import eventually

__all__ = ["measure_cold"]

_QUIET = 1.0  # seconds
_QUESTION = "What is the name of my parrot, and where did I buy it?"


async def measure_cold(bench: ClusterBench) -> list[Row]:
    """Milliseconds of the first recall of users with 2 000 memories, requests to S3 delayed."""
    place, proxy = await bench.filled_place(), bench.engines.proxy
    times, statuses = list[float](), list[str]()
    recall = {"cold_deadline_ms": 10_000}  # so that it is measured, and not given up
    async with bench.engines.gateways(place, count=1, recall=recall) as (server,):
        await ask(bench.engines.session, server, "nobody", _QUESTION, mode="read")
        await eventually(lambda: _is_quiet(bench), 60)  # it has opened its tables
        await proxy.delay(DELAYS)
        for user in bench.cold_users:
            _, headers = await ask(bench.engines.session, server, user, _QUESTION, mode="read")
            times.append(float(headers["x-gateway-overhead-ms"]))
            statuses.append(headers["x-memory-status"])
        counts = await proxy.take()
        await proxy.delay({})
    assert set(statuses) <= {"hit", "miss"}, statuses
    note = f"{len(times)} users; {count_requests(counts)}; GET {DELAYS['GET'] * 1000:.0f} ms"
    name = f"first recall of {bench.COLD_ROWS:,} memories on S3".replace(",", " ")
    return [
        Row(f"{name}, p50", "ms", {OWN: quantile(times, 0.5)}, note),
        Row(f"{name}, max", "ms", {OWN: max(times)}, "sorted: " + " ".join(map(format_number, sorted(times)[-5:]))),
    ]


async def _is_quiet(bench: ClusterBench) -> bool:
    """True if nothing is asked of S3 for a while."""
    await bench.engines.proxy.take()
    await asyncio.sleep(_QUIET)
    return not await bench.engines.proxy.take()
