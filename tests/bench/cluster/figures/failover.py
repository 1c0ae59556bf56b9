"""How soon the others store what a killed gateway had to store."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from tests.bench.cluster.engines import ask, read_state
from tests.bench.cluster.setting import ClusterBench
from tests.bench.processes import Server
from tests.bench.results import OWN, Row, format_number
from tests.fakes.running import eventually

__all__ = ["measure_failover"]

_USERS = 48  # so that there is something in each bucket
_LONGEST = 60.0
_WAITING = "SELECT count(*) FROM entries WHERE state=0 AND bucket = ANY (%s)"
_OWNED = "SELECT array_agg(bucket) FROM leases WHERE bucket>=0 AND owner=%s AND until>=now_seconds()"


async def measure_failover(bench: ClusterBench) -> list[Row]:
    """Seconds from `kill -9` of a gateway until all that waited in its buckets is stored by others."""
    results = []
    for number in range(bench.sizes.failovers):
        bench.step(f"failover {number + 1} of {bench.sizes.failovers}")
        results.append(await _fail_over(bench, f"failover-{number}"))
    taken, stored = ([result[part] for result in results] for part in (0, 1))
    note = f"{len(results)} times, the longest; its leases were taken over after {format_number(max(taken))} s"
    return [Row("failover of the buckets of a killed gateway", "s", {OWN: max(stored)}, note)]


async def _fail_over(bench: ClusterBench, name: str) -> tuple[float, float]:
    """Seconds until the buckets have another owner, and until what waited in them is stored."""
    engines, place = bench.engines, bench.engines.create_place(name)
    async with AsyncExitStack() as stack:
        victim, *others = await stack.enter_async_context(engines.gateways(place))
        owner = (await _cluster_state(bench, victim))["replica"]
        await _say(bench, others)
        buckets = (await engines.query(place, _OWNED, owner))[0][0]
        assert (await engines.query(place, _WAITING, buckets))[0][0], "nothing waits in these buckets"
        victim.process.kill()
        began = time.monotonic()

        async def is_taken_over() -> bool:
            states = [await _cluster_state(bench, other) for other in others]
            return bool(sum(state["owned_buckets"] for state in states) == states[0]["buckets"])

        async def is_stored() -> bool:
            return not (await engines.query(place, _WAITING, buckets))[0][0]

        async def wait(condition: Callable[[], Awaitable[bool]]) -> float:
            await eventually(condition, _LONGEST)
            return time.monotonic() - began

        return await asyncio.gather(wait(is_taken_over), wait(is_stored))


async def _say(bench: ClusterBench, servers: list[Server]) -> None:
    """Let many users say something: most of it waits in its bucket for `flush_seconds`."""
    for number in range(_USERS):
        server = servers[number % len(servers)]
        await ask(bench.engines.session, server, f"user{number}", f"My parrot number {number} is called Zanzibar.")


async def _cluster_state(bench: ClusterBench, server: Server) -> dict[str, Any]:
    state: dict[str, Any] = (await read_state(bench.engines.session, server))["cluster"]
    return state
