"""What is not a memory and is known to all gateways of a cluster all the same."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import psycopg

from tests.cluster.gateways.cluster import Cluster, listed, said
from tests.fakes.process import command
from tests.fakes.running import Reply, Running, eventually
from tests.fakes.s3_proxy import FaultyS3
from tests.fakes.upstream import FakeUpstream

FACT = "My boat is called Argo and lies in Kiel."


async def sessions_of(gateway: Running, user: str = "ada") -> set[str]:
    lines = (await gateway.get(f"/v1/memory/export?user={user}")).body.splitlines()
    return {json.loads(line)["session_id"] for line in lines}


async def has_row(cluster: Cluster, table: str) -> bool:
    """True if a gateway has written to a table, which it does in the background."""

    def look() -> bool:
        with psycopg.connect(cluster.database_url) as connection:
            statement = f"SELECT 1 FROM memory_gateway.{table}".encode()  # noqa: S608 — of this test
            return connection.execute(statement).fetchone() is not None

    return await asyncio.to_thread(look)


async def test_a_conversation_without_an_id_keeps_its_name_when_it_moves(
    cluster: Cluster, upstream: FakeUpstream
) -> None:
    async with cluster.running(2) as (first, second):
        opening = {"role": "user", "content": FACT}
        reply = await first.chat("", messages=[opening])
        assert reply.status == 200
        answer = reply.json["choices"][0]["message"]
        await eventually(lambda: has_row(cluster, "openings WHERE answer<>''"))
        following = {"role": "user", "content": "It has two masts."}
        assert (await second.chat("", messages=[opening, answer, following])).status == 200
        assert len(await sessions_of(second)) == 1
        assert await sessions_of(first) == await sessions_of(second)


async def test_a_repeated_message_is_stored_once_at_whichever_gateway_it_arrives(cluster: Cluster) -> None:
    async with cluster.running(2) as gateways:
        for gateway in gateways:
            assert await said(gateway, FACT) == 200
        for gateway in gateways:
            texts = [entry["text"] for entry in await listed(gateway, user="ada")]
            assert texts.count(FACT) == 1


async def test_an_idempotency_key_holds_for_all_gateways(cluster: Cluster) -> None:
    async with cluster.running(2) as gateways:
        replies = [await gateway.chat(FACT, session="s", headers={"idempotency-key": "one"}) for gateway in gateways]
        assert len({reply.headers["x-gateway-request-id"] for reply in replies}) == 1
        assert [entry["text"] for entry in await listed(gateways[0], user="ada")].count(FACT) == 1


async def test_two_people_with_one_key_end_the_default_user_everywhere(cluster: Cluster) -> None:
    async with cluster.running(2, memory__default_user="me") as (first, second):
        assert (await said_as(first, "eve")).headers["x-memory-status"] != "ambiguous"
        assert (await said_as(second, "mallory")).status == 200

        async def is_ended() -> bool:
            body = {"model": "fake-1", "messages": [{"role": "user", "content": "Hello?"}]}
            reply = await first.post("/v1/chat/completions", body)
            return reply.headers["x-memory-status"] == "ambiguous"

        await eventually(is_ended, 5)


async def said_as(gateway: Running, user: str) -> Reply:
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "Hello."}]}
    return await gateway.post("/v1/chat/completions", body, {"x-openwebui-user-id": user})


async def test_changed_defaults_of_memos_hold_everywhere(cluster: Cluster, upstream: FakeUpstream) -> None:
    async with cluster.running(2) as (first, second):

        async def temperature() -> float:
            reply = await second.post("/product/chat/complete", {"user_id": "ada", "query": "Hello?"})
            assert reply.status == 200, reply.body
            return float(upstream.last.json["temperature"])

        assert await temperature() == 0.7
        reply = await first.post("/product/configure", {"temperature": 0.125})
        assert reply.status == 200, reply.body

        async def is_changed() -> bool:
            return await temperature() == 0.125

        await eventually(is_changed, 5)


async def test_a_repeated_chat_of_memos_gets_the_same_answer_elsewhere(
    cluster: Cluster, upstream: FakeUpstream
) -> None:
    body = {
        "user_id": "ada",
        "conversation_id": "c",
        "query": FACT,
        "add_message_on_answer": True,
    }
    async with cluster.running(2) as (first, second):
        reply = await first.post("/api/openmem/v1/chat", body)
        assert reply.status == 200, reply.body
        await eventually(lambda: has_row(cluster, "replays"))
        upstream.reply = "Something else."
        upstream.received.clear()
        again = await second.post("/api/openmem/v1/chat", body)
        assert again.headers.get("x-gateway-replayed") == "true"
        assert again.json["data"]["response"] == reply.json["data"]["response"]
        assert upstream.received == []


async def test_usage_is_counted_together(cluster: Cluster) -> None:
    async with cluster.running(2) as gateways:
        for gateway in gateways:
            assert await said(gateway, FACT) == 200

        async def is_complete() -> bool:
            usage: dict[str, Any] = (await gateways[0].get("/v1/usage?by=user")).json
            return bool(usage["data"]) and usage["data"][0]["requests"] == 2

        await eventually(is_complete, 10)


async def test_the_metrics_show_the_share_of_a_gateway(cluster: Cluster) -> None:
    async with cluster.running(1) as (gateway,):
        page = (await gateway.get("/metrics")).body.decode()
        assert "gateway_cluster_owned_buckets 64.0" in page
        assert "gateway_cluster_refused_writes_total 0.0" in page
        state = (await gateway.get("/ready")).json["cluster"]
        assert state["owned_buckets"] == 64
        assert state["leases"] == "held"
        assert state["log_lag_seconds"] < 5


async def test_check_says_what_is_wrong(cluster: Cluster, s3: FaultyS3, tmp_path: Path) -> None:
    good = cluster.configuration("good")
    outcome = await command("check", "--config", str(good.folder / "config.yaml"))
    assert outcome.returncode == 0, outcome.stderr
    assert "the database and the bucket can be used" in outcome.stdout
    assert re.search(r"database +127\.0\.0\.1:\d+/d\d+ ", outcome.stdout)
    database = cluster.database_url.rpartition("/")[0] + "/missing"
    bad = cluster.configuration("bad", memory__database=database)
    outcome = await command("check", "--config", str(bad.folder / "config.yaml"))
    assert outcome.returncode == 1
    assert "memory.database: there is no such database" in outcome.stderr
    assert "/missing" in outcome.stdout  # it says which
    assert "can be used" not in outcome.stdout
    assert "a-password-of-tests" not in outcome.stderr + outcome.stdout
    outcome = await command("serve", "--config", str(bad.folder / "config.yaml"))
    assert outcome.returncode == 2
    assert "memory.database: there is no such database" in outcome.stderr
    s3.hides_conflicts = True
    outcome = await command("serve", "--config", str(good.folder / "config.yaml"))
    assert outcome.returncode == 2
    assert "If-None-Match" in outcome.stderr
