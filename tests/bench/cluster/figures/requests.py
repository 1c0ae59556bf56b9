"""Requests to S3 of a cluster in steady state, beside those of the simulation."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.identity import scope_of
from tests.bench.cluster.engines import Engines, Place, ask, count_requests, gateway_of, read_state
from tests.bench.cluster.filling import BUCKETS
from tests.bench.cluster.model import Chat, World, draw_chats, simulate
from tests.bench.cluster.setting import ClusterBench
from tests.bench.processes import Server
from tests.bench.results import OWN, Row
from tests.bench.texts import Texts

__all__ = ["measure_requests"]

_GATEWAYS: Final = 3
_RAM_MIB: Final = 16
_FLUSH_SECONDS: Final = 5.0
_WARM_UP: Final = 3  # one chat in so many is not counted
_KINDS: Final = ("GET", "PUT", "LIST", "HEAD", "DELETE")
_METRIC: Final = re.compile(r"^(gateway_working_set_bytes|gateway_working_sets) (\S+)$", re.MULTILINE)
_OWNERS: Final = "SELECT bucket, owner FROM leases WHERE bucket>=0 AND until>=now_seconds()"


async def measure_requests(bench: ClusterBench) -> list[Row]:
    """Requests to S3 per 1 000 chats by kind, and their ratio to what the simulation says of the same chats."""
    engines, place = bench.engines, await bench.filled_place()
    chats = draw_chats(list(bench.users), bench.sizes.chats, bench.sizes.chat_rate)
    counted_from = len(chats) // _WARM_UP
    recall, store = {"working_set_mb": _RAM_MIB, "cold_deadline_ms": 5000}, {"flush_seconds": _FLUSH_SECONDS}
    started = time.monotonic()
    async with engines.gateways(place, _GATEWAYS, recall=recall, store=store) as servers:
        owners = await _owners(engines, place, servers)
        texts = list(Texts("requests").questions(len(chats)))
        age = time.monotonic() - started
        await engines.proxy.take()
        await _talk(bench, servers, chats[:counted_from], texts)
        await engines.proxy.take()
        statuses = await _talk(bench, servers, chats[counted_from:], texts[counted_from:])
        counts = await engines.proxy.take()
        set_bytes = await _set_bytes(engines, servers)
    world = World(
        set_bytes=set_bytes,
        fragments=bench.FRAGMENTS,
        ram_bytes=_RAM_MIB * 2**20,
        flush_seconds=_FLUSH_SECONDS + 0.5,  # owners look once a second
        maintained_at=60 - age,
        bucket_of=lambda user: int(scope_of("default", user).value[:8], 16) % BUCKETS,
        gateway_of=lambda user: gateway_of(user, _GATEWAYS),
        owner_of=owners.__getitem__,
    )
    simulated, share = simulate(world, chats, counted_from, len(chats) / bench.sizes.chat_rate)
    note = f"simulated: {share:.0%} of the chats find their memories in RAM; measured: {count_requests(statuses)}"
    return _rows(counts, simulated, len(chats) - counted_from, note)


async def _talk(
    bench: ClusterBench, servers: Sequence[Server], chats: Sequence[Chat], texts: list[str]
) -> Counter[str]:
    """Chat at the times that were drawn. The statuses of memory."""
    session, begin, statuses = bench.engines.session, time.monotonic() - chats[0].at, Counter[str]()

    async def talk(chat: Chat, text: str) -> None:
        _, headers = await ask(session, servers[gateway_of(chat.user, len(servers))], chat.user, text)
        statuses[headers["x-memory-status"]] += 1

    async with asyncio.TaskGroup() as group:
        for chat, text in zip(chats, texts, strict=False):
            await asyncio.sleep(max(0.0, begin + chat.at - time.monotonic()))
            group.create_task(talk(chat, text))
    return statuses


async def _set_bytes(engines: Engines, servers: Sequence[Server]) -> float:
    """The mean size of a user's memories in RAM."""
    sums = defaultdict[str, float](float)
    for server in servers:
        async with engines.session.get(f"{server.url}/metrics") as response:
            for name, value in _METRIC.findall(await response.text()):
                sums[name] += float(value)
    return sums["gateway_working_set_bytes"] / sums["gateway_working_sets"]


async def _owners(engines: Engines, place: Place, servers: Sequence[Server]) -> dict[int, int]:
    """The number of the gateway that owns a bucket, by bucket."""
    states = [(await read_state(engines.session, server))["cluster"]["replica"] for server in servers]
    return {bucket: states.index(owner) for bucket, owner in await engines.query(place, _OWNERS)}


def _rows(counts: Counter[str], simulated: Mapping[str, float], chats: int, note: str) -> list[Row]:
    rows = []
    for kind in _KINDS:
        also = f"simulated: {simulated.get(kind, 0) * 1000 / chats:,.0f}"
        rows.append(Row(f"{kind} requests to S3", "/1 000 chats", {OWN: counts[kind] * 1000 / chats}, also))
    ratio = counts.total() / sum(simulated.values())
    return [*rows, Row("requests to S3, measured to simulated", "×", {OWN: ratio}, note)]
