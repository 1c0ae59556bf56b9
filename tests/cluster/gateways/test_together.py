"""Three gateways on one database and one bucket: what one is told all know, and what one forgets all forget."""

import asyncio

from tests.cluster.gateways.cluster import Cluster, listed, recalls, said
from tests.fakes.running import Running, eventually

FACT = "My boat is called Argo and lies in Kiel."


async def all_recall(gateways: list[Running], query: str = "boat", user: str = "ada", timeout: float = 3) -> None:
    """Wait until all recall the fact. `timeout`: for each, on a machine that does other work, too."""
    for gateway in gateways:
        await eventually(lambda gateway=gateway: _has_fact(gateway, query, user), timeout)  # type: ignore[misc]


async def _has_fact(gateway: Running, query: str, user: str) -> bool:
    return FACT in await recalls(gateway, query, user)


async def _lacks_fact(gateway: Running) -> bool:
    return not await _has_fact(gateway, "boat", "ada")


async def test_what_one_is_told_all_recall(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        for gateway in gateways:  # its working set is in RAM now
            assert await recalls(gateway, "boat") == []
        assert await said(gateways[0], FACT) == 200
        for gateway in gateways:
            await all_recall([gateway], "What is my boat called?")
        assert await said(gateways[1], "I was born in Bergen.") == 200
        for gateway in gateways:
            assert {FACT, "I was born in Bergen."} <= {entry["text"] for entry in await listed(gateway, user="ada")}


async def test_a_chat_at_another_gateway_gets_the_memory(cluster: Cluster, upstream) -> None:  # type: ignore[no-untyped-def]
    async with cluster.running() as gateways:
        assert await said(gateways[0], FACT) == 200

        async def is_injected() -> bool:
            upstream.received.clear()
            assert await said(gateways[1], "What is my boat called?", session="other") == 200
            return "Argo" in upstream.prompts()

        await eventually(is_injected, 5)


async def test_a_deletion_is_applied_by_all(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        assert await said(gateways[0], FACT) == 200
        await all_recall(gateways)
        (entry,) = [entry for entry in await listed(gateways[2], user="ada") if entry["text"] == FACT]
        async with gateways[2].session.delete(f"{gateways[2].url}/v1/memory/{entry['id']}") as response:
            assert response.status == 200
        for gateway in gateways:
            await eventually(lambda gateway=gateway: _lacks_fact(gateway), 3)  # type: ignore[misc]


async def test_what_is_deleted_at_one_while_another_changes_it_stays_deleted(cluster: Cluster) -> None:
    async with cluster.running(2) as (first, second):
        for number in range(6):
            body = {"user": "ada", "text": f"Secret number {number}."}
            (entry,) = (await first.post("/v1/memory", body)).json["data"]
            place = f"/v1/memory/{entry['id']}"

            async def delete(place: str = place) -> int:
                async with first.session.delete(first.url + place) as response:
                    return response.status

            async def change(place: str = place) -> int:
                async with second.session.patch(second.url + place, json={"text": "changed"}) as response:
                    return response.status

            deleted, changed = await asyncio.gather(delete(), change())
            assert deleted == 200
            assert changed in (200, 404)
        for gateway in (first, second):
            await eventually(lambda gateway=gateway: _has_none(gateway), 5)  # type: ignore[misc]
        assert await first.gateway.memory.barrier.drained(20)
        assert await _has_none(second)


async def _has_none(gateway: Running) -> bool:
    return not await listed(gateway, user="ada")


async def test_another_user_sees_nothing_at_any_gateway(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        for gateway in gateways:  # the other user's working set follows the journal, too
            assert await recalls(gateway, "boat", "bob") == []
        assert await said(gateways[0], FACT) == 200
        await all_recall(gateways)
        for gateway in gateways:
            assert await recalls(gateway, "boat", "bob") == []
            assert await listed(gateway, user="bob") == []


async def test_memories_outlive_all_gateways(cluster: Cluster) -> None:
    async with cluster.running(2) as gateways:
        assert await said(gateways[0], FACT) == 200
    async with cluster.running(1) as gateways:
        await all_recall(gateways)
        assert (await gateways[0].get("/ready")).json["cluster"]["buckets"] == 64


async def test_a_user_is_purged_from_all(cluster: Cluster) -> None:
    async with cluster.running(2) as gateways:
        for number in range(4):
            assert await said(gateways[0], FACT, f"user-{number}") == 200
        for number, gateway in enumerate(gateways):
            reply = await gateway.post("/v1/memory/forget", {"user": f"user-{number}", "purge": True})
            assert reply.status == 200, reply.body
            assert reply.json["purged"]
        for gateway in gateways:
            assert [len(await recalls(gateway, "boat", f"user-{number}")) > 0 for number in range(4)] == [
                False,
                False,
                True,
                True,
            ]
            assert await _users(gateway) == {"user-2", "user-3"}


async def _users(gateway: Running) -> set[str]:
    return {entry["id"] for entry in (await gateway.get("/v1/memory/users")).json["data"]}
