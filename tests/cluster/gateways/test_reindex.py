"""Another embedder for the memories of a cluster: one request reaches the buckets of all gateways."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.cluster.gateways.cluster import Cluster, recalls, said
from tests.fakes.running import Running, eventually
from tests.fakes.upstream import FakeUpstream
from tests.flow.test_reindex import server as embeddings
from tests.flow.test_reindex import with_server

__all__ = ["embeddings"]

USERS = [f"user-{number}" for number in range(8)]
FACT = "My cat is called Miso."


@pytest.fixture
async def gateways(cluster: Cluster, embeddings: FakeUpstream) -> AsyncIterator[list[Running]]:
    """Three gateways on memories that were embedded by another embedder than theirs."""
    async with cluster.running(1) as (earlier,):
        for user in USERS:
            assert await said(earlier, FACT, user) == 200
        await earlier.settled()
    async with cluster.running(3, **with_server(embeddings)) as started:
        yield started


async def state(gateway: Running) -> str:
    return str((await gateway.get("/v1/memory/reindex")).json["state"])


async def test_one_request_reaches_the_buckets_of_all_gateways(
    gateways: list[Running], embeddings: FakeUpstream
) -> None:
    await eventually(lambda: _all_own_a_share(gateways), 30)
    assert [await state(gateway) for gateway in gateways] == ["needed"] * 3
    for gateway in gateways:  # their working sets have the earlier vectors
        assert all([FACT in await recalls(gateway, "cat", user) for user in USERS])
    assert (await gateways[0].post("/v1/memory/reindex", {})).json["state"] == "running"

    async def is_done_everywhere() -> bool:
        return [await state(gateway) for gateway in gateways] == ["done"] * 3

    await eventually(is_done_everywhere, 60)
    for gateway in gateways:
        for user in USERS:
            assert FACT in await recalls(gateway, "Which pet do we have at home?", user)
        assert not gateway.gateway.memory.reindexer or gateway.gateway.memory.reindexer.progress.state == "done"


async def test_buckets_of_a_gateway_that_ends_are_made_anew_by_another(
    gateways: list[Running], embeddings: FakeUpstream
) -> None:
    await eventually(lambda: _all_own_a_share(gateways), 30)
    embed, is_stopped = embeddings.script, asyncio.Event()

    async def wait(request: object) -> object:
        await is_stopped.wait()
        assert embed is not None
        return await embed(request)  # type: ignore[arg-type]

    embeddings.script = wait  # type: ignore[assignment]
    assert (await gateways[1].post("/v1/memory/reindex", {})).status == 202
    await eventually(lambda: len(embeddings.received) >= 3, 20)
    stopping = asyncio.create_task(gateways[2].gateway.stop())
    is_stopped.set()
    await stopping

    async def is_done() -> bool:
        return [await state(gateway) for gateway in gateways[:2]] == ["done"] * 2

    await eventually(is_done, 60)


async def _all_own_a_share(gateways: list[Running]) -> bool:
    reports = [(await gateway.get("/ready")).json["cluster"] for gateway in gateways]
    return all(abs(report["owned_buckets"] - report["buckets"] / len(gateways)) <= 2 for report in reports)
