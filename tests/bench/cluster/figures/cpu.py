"""CPU time of a chat in clusters of one gateway and of three, beside that of a single process on a folder.

With the same chats at once in all, each of three gateways has fewer of them to write and to embed together; so three
are also measured with as many chats at once at each.
"""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from tests.bench.client import Client
from tests.bench.cluster.engines import ask, gateway_of
from tests.bench.cluster.filling import fill_place
from tests.bench.cluster.setting import ClusterBench
from tests.bench.processes import ROOT, Server, start_gateway, wait_until
from tests.bench.results import OWN, Row, format_number, quantile, ratio
from tests.bench.setting import READY, fill_folders
from tests.bench.texts import Texts

__all__ = ["measure_cpu"]

_USERS: Final = {f"bench{number}": 300 for number in range(20)}
_AT_ONCE: Final = 8
_FOLDER, _ONE, _THREE = "folder", "a cluster of 1", "a cluster of 3"
_BUSY: Final = "a cluster of 3, each as busy"


async def measure_cpu(bench: ClusterBench) -> list[Row]:
    """CPU milliseconds of a chat in each cluster, storing included, as the ratio to the process on a folder."""
    costs = defaultdict[str, list[float]](list)
    async with AsyncExitStack() as stack:
        setups = {_FOLDER: [await stack.enter_async_context(_single(bench))]}
        for name, count in ((_ONE, 1), (_THREE, 3)):
            place = bench.engines.create_place(f"cpu-{count}")
            await fill_place(bench.engines, place, _USERS, texts=bench.sizes.texts, fragments=2)
            setups[name] = await stack.enter_async_context(bench.engines.gateways(place, count))
        setups[_BUSY] = setups[_THREE]
        for number in range(bench.sizes.rounds + 1):
            bench.step(f"CPU time, round {number} of {bench.sizes.rounds}")
            for name, servers in setups.items():
                kind = "busy" if name == _BUSY else "same"
                texts = list(Texts(f"cluster {kind} {number}").questions(bench.sizes.round_chats))
                at_once = _AT_ONCE * len(servers) if name == _BUSY else _AT_ONCE
                cost = await _measure(bench, servers, texts, at_once)
                if number:  # round 0 loads the memories
                    costs[name].append(cost)
    note = ", ".join(f"{name}: {format_number(quantile(values, 0.5))} ms" for name, values in costs.items())
    return [
        Row(f"CPU a chat, {name}", "× folder", {OWN: ratio(costs[name], costs[_FOLDER])}, note)
        for name in (_ONE, _THREE, _BUSY)
    ]


@asynccontextmanager
async def _single(bench: ClusterBench) -> AsyncIterator[Server]:
    """A gateway with one process on a folder."""
    folder, data = bench.engines.folder / "single", bench.engines.folder / "single-data"
    await asyncio.to_thread(fill_folders, {data: _USERS}, bench.sizes.texts)
    folder.mkdir(exist_ok=True)
    shutil.move(data, folder / "data")
    server = start_gateway(_FOLDER, ROOT, folder, bench.engines.upstream.port, has_memory=True)
    try:
        await wait_until(bench.engines.session, server, "/ready", READY)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def _measure(bench: ClusterBench, servers: Sequence[Server], texts: Sequence[str], at_once: int) -> float:
    """CPU milliseconds of a chat, until everything is stored."""
    before, numbered, users = sum(server.cpu() for server in servers), enumerate(texts), list(_USERS)

    async def work() -> None:
        for number, text in numbered:
            user = users[number % len(users)]
            await ask(bench.engines.session, servers[gateway_of(user, len(servers))], user, text)

    await asyncio.gather(*(work() for _ in range(at_once)))
    client = Client(bench.engines.session)
    await client.settle(servers[0])
    return (sum(server.cpu() for server in servers) - before) * 1000 / len(texts)
