"""A chat of MemOS that a client repeats at another gateway while the first one still asks the model."""

import asyncio
from typing import Any

import pytest

from tests.cluster.gateways.cluster import Cluster
from tests.fakes.running import Reply, Running, eventually
from tests.fakes.upstream import FakeUpstream, hangs, pause, says

PATH = "/api/openmem/v1/chat"


def question(text: str = "Where is my boat?", **fields: Any) -> dict[str, Any]:
    return {"user_id": "ada", "conversation_id": "c", "query": text, **fields}


def start(gateway: Running, body: dict[str, Any]) -> "asyncio.Task[Reply]":
    return asyncio.create_task(gateway.post(PATH, body))


@pytest.mark.parametrize("is_remembered", [True, False])
async def test_a_retry_at_another_gateway_gets_the_answer_of_the_first(
    cluster: Cluster, upstream: FakeUpstream, is_remembered: bool
) -> None:
    upstream.script = hangs()
    body = question(add_message_on_answer=is_remembered)
    async with cluster.running() as (first, *others):
        tasks = [start(first, body)]
        await eventually(lambda: len(upstream.received) == 1)
        tasks += [start(other, body) for other in others]
        await pause(1)  # in which they could ask
        assert len(upstream.received) == 1
        upstream.release()
        replies = await asyncio.gather(*tasks)
        assert [reply.status for reply in replies] == [200] * 3
        assert [reply.json["data"]["response"] for reply in replies] == ["late"] * 3
        assert [reply.headers.get("x-gateway-replayed") for reply in replies] == [None, "true", "true"]
        assert len(upstream.received) == 1


async def test_an_answer_that_was_delivered_is_asked_for_again(cluster: Cluster, upstream: FakeUpstream) -> None:
    async with cluster.running(2) as (first, second):
        for gateway in (first, second):

            async def is_answered_by_the_model(gateway: Running = gateway) -> bool:
                reply = await gateway.post(PATH, question(add_message_on_answer=False))
                return reply.status == 200 and "x-gateway-replayed" not in reply.headers

            await eventually(is_answered_by_the_model)


async def test_a_question_is_new_when_the_conversation_went_on_at_another_gateway(
    cluster: Cluster, upstream: FakeUpstream
) -> None:
    async with cluster.running(2) as (first, second):
        assert (await first.post(PATH, question(add_message_on_answer=True))).status == 200
        assert (await second.post(PATH, question("And my car?", add_message_on_answer=True))).status == 200

        async def is_answered_by_the_model() -> bool:
            reply = await first.post(PATH, question(add_message_on_answer=True))
            return reply.status == 200 and "x-gateway-replayed" not in reply.headers

        await eventually(is_answered_by_the_model)


async def test_a_failure_is_no_answer_to_a_retry(cluster: Cluster, upstream: FakeUpstream) -> None:
    async with cluster.running(2) as (first, second):
        upstream.script = says(400, {"error": {"message": "no"}})
        assert (await first.post(PATH, question())).status == 400
        upstream.script = None
        reply = await second.post(PATH, question())
        assert (reply.status, reply.headers.get("x-gateway-replayed")) == (200, None)


async def test_a_retry_asks_the_model_when_the_first_gateway_died(cluster: Cluster, upstream: FakeUpstream) -> None:
    upstream.script = hangs()
    async with cluster.running(1) as (second,), cluster.process("first") as first:
        lost = asyncio.create_task(first.post(PATH, question()))
        await eventually(lambda: len(upstream.received) == 1)
        retry = start(second, question())
        await pause(0.5)
        assert len(upstream.received) == 1
        await first.kill()
        upstream.script = None
        assert (await asyncio.wait_for(retry, 30)).status == 200
        assert len(upstream.received) == 2
        await asyncio.wait([lost])
        assert lost.exception() is not None
