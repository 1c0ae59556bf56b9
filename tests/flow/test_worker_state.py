"""What workers know of turns, usage and stored responses is one: the owner of the store speaks for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.running import Reply, Running, configuration, eventually
from tests.fakes.upstream import FakeUpstream, says
from tests.fakes.workers import Workers, running_workers, start_worker

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-admin", "name": "boss", "tenant": "acme", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-ada", "name": "ada's", "tenant": "acme", "user": "ada"},
    {"key": "key-of-bob", "name": "bob's", "tenant": "acme", "user": "bob"},
    {"key": "key-of-other", "name": "other", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]


def key(name: str) -> dict[str, str]:
    return {"x-gateway-key": f"key-of-{name}"}


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth__keys": KEYS, "memory__enabled": False}


@pytest.fixture
async def workers(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> AsyncIterator[Workers]:
    config = configuration(tmp_path, upstream.url, **changes)
    async with running_workers([config] * 3) as started:
        yield started


async def chat(worker: Running, who: str, text: str = "hello", **headers: str) -> Reply:
    reply = await worker.chat(text, headers={**key(who), **headers})
    assert reply.status == 200, reply.body
    await worker.finished()
    return reply


async def turns(worker: Running, who: str = "admin", query: str = "") -> list[dict[str, Any]]:
    reply = await worker.get(f"/v1/turns{query}", key(who))
    assert reply.status == 200, reply.body
    entries: list[dict[str, Any]] = reply.json["data"]
    return entries


async def test_the_turns_of_all_workers_are_listed_by_each(workers: Workers) -> None:
    ids = [(await chat(worker, "ada")).headers["x-gateway-request-id"] for worker in workers.members]
    await chat(workers.members[1], "other")
    owner = workers.owner

    async def has_all() -> bool:
        return len(await turns(owner)) == 3

    await eventually(has_all)
    for worker in workers.members:
        entries = await turns(worker)
        assert sorted(entry["id"] for entry in entries) == sorted(ids)
        numbers = [entry["seq"] for entry in entries]
        assert numbers == sorted(set(numbers), reverse=True)
        assert await turns(worker, "bob") == []
        assert len(await turns(worker, "other")) == 1
        assert {entry["user"] for entry in await turns(worker, "ada")} == {"ada"}


async def test_a_stream_of_turns_has_those_of_all_workers(workers: Workers) -> None:
    first, second = workers.members[1:]
    async with first.session.get(first.url + "/v1/turns/stream", headers=key("ada")) as response:
        await response.content.readline()
        for worker in workers.members:
            await chat(worker, "bob")
        reply = await chat(second, "ada")
        async with asyncio.timeout(5):
            while not (line := await response.content.readline()).startswith(b"data: ["):
                pass
        assert reply.headers["x-gateway-request-id"].encode() in line
        assert b"bob" not in line


async def test_usage_of_a_chat_is_reported_at_once(workers: Workers) -> None:
    for count, worker in enumerate(workers.members, 1):
        await chat(worker, "ada")
        for other in workers.members:
            (row,) = (await other.get("/v1/usage?by=user", key("admin"))).json["data"]
            assert (row["user"], row["requests"]) == ("ada", count)
    assert (await workers.members[1].get("/v1/usage", key("other"))).json["data"] == []
    assert (await workers.members[1].get("/v1/usage", key("ada"))).status == 403


async def test_usage_without_a_worker_that_hangs_is_reported_all_the_same(workers: Workers) -> None:
    await chat(workers.members[1], "ada")
    await workers.members[2].gateway.stop()
    (row,) = (await workers.members[1].get("/v1/usage?by=user", key("admin"))).json["data"]
    assert row["requests"] == 1


def response(id_: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": "Yes.", "annotations": []}]
    output = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}]
    return {"id": id_, "object": "response", "status": "completed", "model": "fake-1", "output": output}


async def respond(worker: Running, who: str, **fields: Any) -> Reply:
    return await worker.post("/v1/responses", {"model": "fake-1", "input": "hello", **fields}, key(who))


@pytest.mark.parametrize("is_written", [True, False], ids=["on the disk", "in RAM only"])
async def test_a_stored_response_is_known_to_all_workers_and_foreign_to_others(
    workers: Workers, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    if not is_written:
        never = asyncio.Event()

        async def write(_: Any) -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.1)

        monkeypatch.setattr("gateway.storage.sqlite.owners.SqliteOwners._write", write)
    for number, giver in enumerate(workers.members):
        upstream.script = says(200, response(f"resp_{number}"))
        assert (await respond(giver, "ada")).status == 200
        sent = len(upstream.received)
        for worker in workers.members:
            for who in ("bob", "other"):
                refused = await respond(worker, who, previous_response_id=f"resp_{number}")
                unknown = await respond(worker, who, previous_response_id="resp_unknown")
                assert refused.status == unknown.status == 404
                assert refused.body == unknown.body
        assert len(upstream.received) == sent
        for worker in workers.members:
            upstream.script = says(200, response("resp_next"))
            assert (await respond(worker, "ada", previous_response_id=f"resp_{number}")).status == 200


async def test_a_stored_response_is_known_after_a_restart(
    tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]
) -> None:
    config = configuration(tmp_path, upstream.url, **changes)
    upstream.script = says(200, response("resp_1"))
    async with running_workers([config] * 2) as workers:
        assert (await respond(workers.members[1], "ada")).status == 200
    async with running_workers([config] * 2) as workers:
        for worker in workers.members:
            assert (await respond(worker, "bob", previous_response_id="resp_1")).status == 404
            assert (await respond(worker, "ada", previous_response_id="resp_1")).status == 200


def values(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of a page of metrics."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


CHATS = ("gateway_requests_total", (("face", "openai"), ("status", "200")))


async def test_metrics_speak_for_all_workers_and_never_fall(workers: Workers, tmp_path: Path) -> None:
    for worker in workers.members:
        await chat(worker, "ada")
    for worker in workers.members:
        page = values((await worker.get("/metrics")).body)
        assert page[CHATS] == 3
        assert page["gateway_turns_total", (("outcome", "complete"),)] == 3
        assert page["gateway_request_duration_seconds_bucket", (("face", "openai"), ("le", "+Inf"))] == 3
        assert page["gateway_workers", ()] == 3
        assert page["gateway_silent_workers", ()] == 0
        assert page["gateway_memory_ready", ()] == 1
    await workers.members[2].gateway.stop()
    page = values((await workers.owner.get("/metrics")).body)
    assert page[CHATS] == 3
    assert (page["gateway_workers", ()], page["gateway_silent_workers", ()]) == (2, 1)
    async with start_worker(workers.configs[2], workers.peers(2, 3)) as successor:
        await eventually(lambda: _is_counted(workers, 3))
        await chat(successor, "ada")
        page = values((await workers.owner.get("/metrics")).body)
        assert page[CHATS] == 4
        assert (page["gateway_workers", ()], page["gateway_silent_workers", ()]) == (3, 0)


async def _is_counted(workers: Workers, count: int) -> bool:
    return values((await workers.owner.get("/metrics")).body)["gateway_workers", ()] == count


async def test_readiness_speaks_for_all_workers(workers: Workers) -> None:
    states = [{"worker": number, "state": "ready", "memory": "off"} for number in range(3)]
    for worker in workers.members:
        reply = await worker.get("/ready")
        assert (reply.status, reply.json["ready"], reply.json["workers"]) == (200, True, states)
    await workers.members[1].gateway.stop()
    reply = await workers.owner.get("/ready")
    assert (reply.status, reply.json["ready"]) == (200, True)  # chats are served
    assert reply.json["workers"][1] == {"worker": 1, "state": "silent", "memory": None}


async def test_a_limit_is_of_all_workers_together(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__enabled=False, limits__in_flight_per_key=3, auth__keys=KEYS)
    async with running_workers([config] * 3) as workers:
        release = asyncio.Event()
        default = upstream.default

        async def wait(request: Any) -> Any:
            await release.wait()
            return await default(request)

        upstream.script = wait
        first = [asyncio.create_task(worker.chat("hello", headers=key("ada"))) for worker in workers.members]
        await eventually(lambda: len(upstream.received) == 3)
        for worker in workers.members:
            assert (await worker.chat("hello", headers=key("ada"))).status == 429
        release.set()
        assert [(await task).status for task in first] == [200] * 3


async def test_forgetting_a_user_reaches_every_worker(tmp_path: Path, upstream: FakeUpstream) -> None:
    owner = configuration(tmp_path, upstream.url, auth__keys=KEYS)
    other = configuration(tmp_path, upstream.url, auth__keys=KEYS, memory__enabled=False)
    async with running_workers([owner, other, other]) as workers:
        for number, worker in enumerate(workers.members):
            upstream.script = says(200, response(f"resp_{number}"))
            for who in ("ada", "bob"):
                assert (await respond(worker, who, previous_response_id=None)).status == 200
                upstream.script = says(200, response(f"resp_of_bob_{number}"))
            await worker.finished()
        await eventually(lambda: _has_turns(workers, 6))
        sent = len(upstream.received)
        forget = {"user": "ada", "purge": True}
        reply = await workers.members[2].post("/v1/memory/forget", forget, key("admin"))
        assert (reply.status, reply.json["purged"]) == (200, True), reply.body
        assert workers.ended == []
        assert {entry["user"] for entry in await turns(workers.owner)} == {"bob"}
        rows = (await workers.members[1].get("/v1/usage?by=user", key("admin"))).json["data"]
        assert {row["user"]: row["requests"] for row in rows} == {"": 3, "bob": 3}
        for number in range(3):
            for worker in workers.members:
                assert (await respond(worker, "ada", previous_response_id=f"resp_{number}")).status == 404
        assert len(upstream.received) == sent
        upstream.script = says(200, response("resp_next"))
        for worker in workers.members:
            assert (await respond(worker, "bob", previous_response_id="resp_of_bob_1")).status == 200


async def _has_turns(workers: Workers, count: int) -> bool:
    return len(await turns(workers.owner)) == count
