"""Requests for one user that reach several gateways of a cluster at once, and those that follow one at another."""

import asyncio
import json
from typing import Any

import pytest

from gateway.storage.lance.object_place import ObjectStorage
from tests.cluster.gateways.cluster import Cluster, listed, said
from tests.fakes.running import Reply, Running, eventually
from tests.fakes.upstream import FakeUpstream, says

FACT = "My boat is called Argo and lies in Kiel."
KEYS: list[dict[str, Any]] = [
    {"key": "key-of-acme", "tenant": "acme"},
    {"key": "key-of-bob", "tenant": "acme", "user": "bob"},
    {"key": "key-of-rival", "tenant": "rival"},
]


async def add(gateway: Running, text: str, user: str = "ada") -> str:
    reply = await gateway.post("/v1/memory", {"user": user, "text": text})
    assert reply.status == 201, reply.body
    return str(reply.json["data"][0]["id"])


async def change(gateway: Running, id_: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.session.patch(f"{gateway.url}/v1/memory/{id_}", json=body) as response:
        return response.status, await response.json()


async def history(gateway: Running, id_: str) -> list[tuple[str, int, str]]:
    entries = (await gateway.get(f"/v1/memory/history/{id_}")).json["data"]
    return [(entry["text"], entry["version"], entry["status"]) for entry in entries]


async def texts(gateway: Running, user: str = "ada") -> list[str]:
    return sorted(entry["text"] for entry in await listed(gateway, user=user))


async def exported(gateway: Running, path: str) -> list[str]:
    lines = (await gateway.get(path)).body.splitlines()
    return sorted(record["text"] for record in map(json.loads, lines) if "text" in record)


async def test_what_one_gateway_answered_the_others_read_at_once(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        first, second, third = gateways
        id_ = ""
        for number in range(5):
            id_ = await add(gateways[number % 3], f"Fact {number}.")
            assert (await gateways[(number + 1) % 3].get(f"/v1/memory/{id_}")).json["text"] == f"Fact {number}."
            status, _ = await change(gateways[(number + 2) % 3], id_, text=f"Fact {number}, changed.")
            assert status == 200
            assert (await gateways[number % 3].get(f"/v1/memory/{id_}")).json["text"] == f"Fact {number}, changed."
        assert await history(first, id_) == await history(second, id_) == await history(third, id_)
        assert (await first.post(f"/v1/memory/undo/{id_}", {})).status == 200
        for gateway in gateways:
            assert (await gateway.get(f"/v1/memory/{id_}")).json["text"] == "Fact 4."


async def test_one_of_two_edits_of_the_same_version_wins(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        for round_ in range(4):
            id_ = await add(gateways[0], f"Round {round_}.")
            version = (await gateways[0].get(f"/v1/memory/{id_}")).json["version"]
            edits = [
                change(gateway, id_, text=f"By {number} in {round_}.", version=version)
                for number, gateway in enumerate(gateways)
            ]
            outcomes = await asyncio.gather(*edits)
            assert sorted(status for status, _ in outcomes) == [200, 409, 409]
            (winner,) = [body["text"] for status, body in outcomes if status == 200]
            for gateway in gateways:
                assert (await gateway.get(f"/v1/memory/{id_}")).json["text"] == winner
                assert len(await history(gateway, id_)) == 2


async def test_edits_at_once_all_take_place_one_after_the_other(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        id_ = await add(gateways[0], "The first text.")
        edits = [change(gateways[number % 3], id_, text=f"Text {number}.") for number in range(9)]
        assert {status for status, _ in await asyncio.gather(*edits)} == {200}
        lines = [await history(gateway, id_) for gateway in gateways]
        assert lines[0] == lines[1] == lines[2]
        assert {text for text, _, _ in lines[0]} == {"The first text.", *(f"Text {number}." for number in range(9))}
        assert [status for _, _, status in lines[0]].count("activated") == 1


async def test_a_user_is_forgotten_while_another_gateway_adds(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        before = [f"Before {number}." for number in range(6)]
        await asyncio.gather(*(add(gateways[number % 3], text) for number, text in enumerate(before)))
        is_over = asyncio.Event()
        acknowledged: list[str] = []

        async def go_on() -> None:
            number = 0
            while not is_over.is_set():
                text = f"Meanwhile {number}."
                await add(gateways[1 + number % 2], text)
                acknowledged.append(text)
                number += 1

        adding = asyncio.create_task(go_on())
        await eventually(lambda: len(acknowledged) >= 3, 20)
        sure = len(acknowledged)
        reply = await gateways[0].post("/v1/memory/forget", {"user": "ada"})
        assert reply.status == 200, reply.body
        count_then = len(acknowledged)
        is_over.set()
        await adding
        last = await add(gateways[2], "After it.")
        assert last
        rest = [await texts(gateway) for gateway in gateways]
        assert rest[0] == rest[1] == rest[2]
        assert not set(rest[0]) & {*before, *acknowledged[:sure]}, "what was there before is gone everywhere"
        assert set(rest[0]) >= {*acknowledged[count_then + 1 :], "After it."}, "what came after it is there"


async def test_an_export_has_what_other_gateways_got(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        for number, gateway in enumerate(gateways):
            assert await said(gateway, f"Fact {number}.", session=f"s{number}") == 200
        for gateway in gateways:
            for path in ("/v1/memory/export?user=ada", "/v1/memory/user-export?user=ada"):
                lines = await exported(gateway, path)
                assert [text for text in lines if text.startswith("Fact")] == ["Fact 0.", "Fact 1.", "Fact 2."], path


async def test_an_erasure_takes_what_other_gateways_got(
    cluster: Cluster, storage: ObjectStorage, upstream: FakeUpstream
) -> None:
    async with cluster.running() as gateways:
        for number, gateway in enumerate(gateways):
            assert await said(gateway, f"Fact {number}.", session=f"s{number}") == 200
        reply = await gateways[2].post("/v1/memory/forget", {"user": "ada", "purge": True})
        assert reply.status == 200, reply.body
        assert reply.json["purged"]
        for gateway in gateways:
            assert await texts(gateway) == []
            assert await exported(gateway, "/v1/memory/export?user=ada") == []


async def test_a_chat_with_one_idempotency_key_is_stored_once(cluster: Cluster) -> None:
    async with cluster.running() as gateways:
        headers = {"idempotency-key": "one"}
        chats = [gateway.chat(FACT, session="s", headers=headers) for gateway in gateways * 2]
        replies: list[Reply] = await asyncio.gather(*chats)
        assert {reply.status for reply in replies} == {200}
        for gateway in gateways:
            assert (await texts(gateway)).count(FACT) == 1


@pytest.mark.parametrize("is_sync", [True, False])
async def test_an_add_that_the_client_of_memos_repeats_is_stored_once(cluster: Cluster, is_sync: bool) -> None:
    body = {"user_id": "ada", "messages": [{"role": "user", "content": FACT}], "async_mode": not is_sync}
    async with cluster.running() as gateways:
        for gateway in gateways:
            assert (await gateway.post("/product/add/message", body)).status == 200
        adds = [gateway.post("/product/add/message", body) for gateway in gateways]
        assert {reply.status for reply in await asyncio.gather(*adds)} == {200}
        for gateway in gateways:
            assert (await texts(gateway)).count(FACT) == 1


async def test_a_task_of_memos_is_completed_at_any_gateway(cluster: Cluster) -> None:
    body = {"user_id": "ada", "messages": "Remember this.", "task_id": "my-task"}
    async with cluster.running() as gateways:
        assert (await gateways[0].post("/product/add", body)).status == 200
        for gateway in gateways:
            path = "/product/scheduler/wait?user_name=ada&timeout_seconds=3&poll_interval=0.05"
            assert (await gateway.post(path, {})).json["message"] == "idle"


async def test_a_stored_response_is_its_owners_at_any_gateway(cluster: Cluster, upstream: FakeUpstream) -> None:
    answer = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
    async with cluster.running(auth__keys=KEYS) as gateways:

        async def ask(gateway: Running, key: str, **body: Any) -> int:
            headers = {"x-gateway-key": key, **({"x-memory-user": "ada"} if key != "key-of-bob" else {})}
            request = {"model": "fake-1", "input": "Hello.", **body}
            return (await gateway.post("/v1/responses", request, headers)).status

        upstream.script = says(200, answer)
        assert await ask(gateways[0], "key-of-acme") == 200
        for gateway in gateways:
            sent = len(upstream.received)
            assert await ask(gateway, "key-of-rival", previous_response_id="resp_1") == 404
            assert await ask(gateway, "key-of-bob", previous_response_id="resp_1") == 404
            assert len(upstream.received) == sent, "no other reaches it"
            assert await ask(gateway, "key-of-acme", previous_response_id="resp_1") == 200


async def test_a_limit_of_requests_holds_for_all_gateways(cluster: Cluster) -> None:
    plugin = {"use": "rate_limit", "config": {"requests_per_minute_per_user": 6}}
    async with cluster.running(plugins=[plugin]) as gateways:
        statuses = [await said(gateways[number % 3], f"Number {number}.") for number in range(9)]

        async def is_refused() -> bool:
            return [await said(gateway, "More?") for gateway in gateways] == [429] * 3

        assert statuses[:6] == [200] * 6
        await eventually(is_refused, 3)
