import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import started, turn
from gateway.turn import Answer
from plugins.response_cache import ResponseCache
from tests.fakes.formats import speaks_responses
from tests.fakes.running import configuration, eventually, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, completion, cuts_after, deltas, says, streams


def cached(folder: Path, upstream: FakeUpstream, **config: Any) -> Any:
    plugins = [{"use": "response_cache", "config": config}]
    return running_gateway(configuration(folder, upstream.url, plugins=plugins))


@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_same_request_gets_the_same_bytes_without_a_model(
    tmp_path: Path, upstream: FakeUpstream, is_stream: bool
) -> None:
    async with cached(tmp_path, upstream) as gateway:
        first = await gateway.chat("What is a lychee?", stream=is_stream)
        await gateway.settled()
        again = await gateway.chat("What is a lychee?", stream=is_stream)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["content-type"].startswith("text/event-stream" if is_stream else "application/json")
        assert (again.headers["x-gateway-cache"], "x-gateway-cache" in first.headers) == ("hit", False)
        assert len(upstream.received) == 1
        await gateway.settled()
        third = await gateway.chat("What is a lychee?", stream=is_stream)
        assert third.body == first.body
        assert len(upstream.received) == 1


async def test_another_user_request_or_wish_asks_the_model(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with cached(tmp_path, upstream) as gateway:
        await gateway.chat("What is a lychee?")
        await gateway.settled()
        await gateway.chat("What is a lychee?", user="bob")
        await gateway.chat("What is a lychee?", temperature=0)
        await gateway.chat("What is a lychee?", stream=True)
        await gateway.chat("What is a lychee?", headers={"cache-control": "no-cache"})
        assert len(upstream.received) == 5


async def test_errors_and_cut_streams_are_not_kept(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with cached(tmp_path, upstream) as gateway:
        upstream.script = says(400, {"error": {"message": "no"}})
        assert (await gateway.chat("hi")).status == 400
        upstream.script = cuts_after(deltas("half of it")[:2])
        await gateway.broken_off({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        await gateway.settled()
        upstream.script = None
        assert (await gateway.chat("hi")).status == 200
        assert len(upstream.received) == 3


async def test_answers_leave_by_age_and_by_size() -> None:
    answer = Answer("x", finish_reason="stop", body=b"x" * 400_000)
    turns = [turn(f"question {number}") for number in range(4)]
    async with started(ResponseCache, max_mb=1) as cache:
        for asked in turns:
            await cache.call("on_response", asked, answer)
        replies = [await cache.call("on_request", asked) for asked in turns]
        assert [reply is not None for reply in replies] == [False, False, True, True], "a megabyte holds two"
        assert replies[3].body == answer.body
        assert cache.counts == {"hit": 2, "miss": 2}
        cache.now += 299
        assert await cache.call("on_request", turns[3]) is not None
        cache.now += 2
        assert await cache.call("on_request", turns[3]) is None


async def test_the_caches_of_all_workers_have_the_configured_size_together() -> None:
    answer = Answer("x", finish_reason="stop", body=b"x" * 400_000)
    turns = [turn(f"question {number}") for number in range(4)]
    async with started(ResponseCache, max_mb=2) as cache:
        await cache.plugin.start(replace(cache.services, workers=2))
        for asked in turns:
            await cache.call("on_response", asked, answer)
        replies = [await cache.call("on_request", asked) for asked in turns]
        assert [reply is not None for reply in replies] == [False, False, True, True]


async def test_a_stream_that_is_too_long_is_not_kept_and_a_doubled_one_is_whole(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with cached(tmp_path, upstream, max_answer_kb=4) as gateway:
        upstream.reply = "word " * 5000
        for _ in range(2):
            reply = await gateway.chat("long", stream=True)
            assert (reply.status, "x-gateway-cache" in reply.headers) == (200, False)
            await gateway.settled()
        upstream.reply = "short"
        same = {"headers": {"idempotency-key": "k"}, "stream": True}
        await asyncio.gather(*(gateway.chat("twice", **same) for _ in range(3)))
        await gateway.settled()
        again = await gateway.chat("twice", stream=True)
        assert (again.body.count(b"[DONE]"), again.headers["x-gateway-cache"]) == (1, "hit")


REFUSES = """
from gateway.hooks import Plugin, Reject

class Refuse(Plugin):
    async def on_request(self, turn):
        if "x-refuse" in turn.headers:
            raise Reject(429, "not now")
"""


async def test_a_retry_that_is_refused_leaves_the_stream_whole(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "refuse.py").write_text(REFUSES)
    plugins = [{"use": "refuse"}, {"use": "response_cache", "config": {}}]
    upstream.script = streams([*deltas("a b c d e"), DONE], pause=0.05)
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=plugins)) as gateway:
        headers = {"idempotency-key": "k"}
        first = asyncio.create_task(gateway.chat("x", stream=True, headers=headers))
        await eventually(lambda: len(upstream.received) == 1)
        refused = await gateway.chat("x", stream=True, headers={**headers, "x-refuse": "yes"})
        assert (refused.status, first.done()) == (429, False)
        whole = (await first).body
        await gateway.settled()
        again = await gateway.chat("x", stream=True, headers=headers)
        assert (again.body, again.headers["x-gateway-cache"]) == (whole, "hit")


async def test_nobody_gets_anothers_answer_with_memory_off(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.script = speaks_responses("Noted.")
    async with cached(tmp_path, upstream) as gateway:
        for user in ("ada", "bob"):
            headers = {"x-memory-user": user, "x-memory-mode": "off"}
            reply = await gateway.post("/v1/responses", {"model": "m", "input": "hi"}, headers)
            assert "x-gateway-cache" not in reply.headers
            await gateway.settled()
        assert len(upstream.received) == 2


async def test_what_is_no_answer_or_holds_a_key_is_not_kept_so(tmp_path: Path, upstream: FakeUpstream) -> None:
    one = {"name": "up", "base_url": upstream.url, "api_key": "sk-upstream-secret-1"}
    plugins = [{"use": "response_cache", "config": {}}]
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one], plugins=plugins)) as gateway:
        upstream.script = says(200, {"error": {"message": "busy", "code": 503}})
        await gateway.chat("hi")
        await gateway.settled()
        upstream.script = says(200, completion("my key is sk-upstream-secret-1"))
        first = await gateway.chat("hi")
        await gateway.settled()
        again = await gateway.chat("hi")
        assert again.headers["x-gateway-cache"] == "hit"
        assert b"sk-upstream-secret-1" not in first.body + again.body
        told = await gateway.get("/v1/memory/export")
        assert b"sk-upstream-secret-1" not in told.body


async def test_what_comes_from_the_cache_costs_nothing(tmp_path: Path, upstream: FakeUpstream) -> None:
    plugins = [
        {"use": "rate_limit", "config": {"tokens_per_day_per_user": 30}},
        {"use": "response_cache", "config": {}},
    ]
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=plugins)) as gateway:
        for _ in range(5):
            assert (await gateway.chat("hi")).status == 200
            await gateway.settled()
        assert len(upstream.received) == 1


async def test_an_answer_goes_with_a_memory_that_it_may_rest_on(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with cached(tmp_path, upstream) as gateway:
        body = {"user_id": "ada", "messages": "My cat is called Miso.", "async_mode": "sync"}
        (item,) = (await gateway.post("/product/add", body)).json["data"]
        upstream.reply = "Your cat is called Miso."
        for user in ("ada", "bob"):
            for _ in range(2):
                await gateway.chat("What is my cat called?", user=user, headers={"x-memory-mode": "read"})
                await gateway.settled()
        assert len(upstream.received) == 2
        upstream.reply = "I do not know."
        await gateway.post("/product/delete_memory", {"user_id": "ada", "memory_ids": [item["memory_id"]]})
        again = await gateway.chat("What is my cat called?", headers={"x-memory-mode": "read"})
        assert (again.headers.get("x-gateway-cache"), b"Miso" in again.body) == (None, False)
        other = await gateway.chat("What is my cat called?", user="bob", headers={"x-memory-mode": "read"})
        assert other.headers["x-gateway-cache"] == "hit", "nobody else's"


async def test_an_answer_on_its_way_while_a_memory_is_deleted_is_not_kept(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with cached(tmp_path, upstream) as gateway:
        body = {"user_id": "ada", "messages": "My cat is called Miso.", "async_mode": "sync"}
        (item,) = (await gateway.post("/product/add", body)).json["data"]

        async def script(request: Any) -> Any:
            upstream.script = None
            await gateway.post("/product/delete_memory", {"user_id": "ada", "memory_ids": [item["memory_id"]]})
            return await says(200, completion("Miso."))(request)

        upstream.script = script
        await gateway.chat("What is my cat called?", headers={"x-memory-mode": "read"})
        await gateway.settled()
        again = await gateway.chat("What is my cat called?", headers={"x-memory-mode": "read"})
        assert "x-gateway-cache" not in again.headers


async def test_an_imported_memory_makes_answers_outdated(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with cached(tmp_path, upstream) as gateway:
        body = {"user_id": "ada", "messages": "My cat is called Miso.", "async_mode": "sync"}
        await gateway.post("/product/add", body)
        question: dict[str, Any] = {"text": "What is my cat called?", "headers": {"x-memory-mode": "read"}}
        await gateway.chat(**question)
        await gateway.settled()
        assert (await gateway.chat(**question)).headers["x-gateway-cache"] == "hit"
        exported = (await gateway.get("/v1/memory/export")).body
        changed = exported.replace(b"Miso", b"Toro").replace(b'"version":1', b'"version":2')
        assert (await gateway.post("/v1/memory/import", None, raw=changed)).status == 200
        again = await gateway.chat(**question)
        assert "x-gateway-cache" not in again.headers
        assert "Toro" in upstream.prompts()
