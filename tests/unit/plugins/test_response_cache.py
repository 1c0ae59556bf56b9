import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, cuts_after, deltas, says


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


async def test_answers_leave_by_age_and_by_size(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with cached(tmp_path, upstream, max_mb=1) as gateway:
        (one,) = gateway.gateway._plugins._loaded
        upstream.reply = "word " * 100_000
        for number in range(4):
            await gateway.chat(f"question {number}")
            await gateway.settled()
        assert one.plugin._size <= 2**20
        before = len(upstream.received)
        await gateway.chat("question 3")
        assert len(upstream.received) == before
        one.plugin._clock = lambda: 4e9  # time is what is mocked
        await gateway.chat("question 3")
        assert len(upstream.received) == before + 1


async def test_a_stream_that_is_too_long_or_doubled_is_not_kept(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with cached(tmp_path, upstream, max_answer_kb=4) as gateway:
        (one,) = gateway.gateway._plugins._loaded
        upstream.reply = "word " * 5000
        await gateway.chat("long", stream=True)
        await gateway.settled()
        assert not one.plugin._streams
        upstream.reply = "short"
        same = {"headers": {"idempotency-key": "k"}, "stream": True}
        await asyncio.gather(*(gateway.chat("twice", **same) for _ in range(3)))
        await gateway.settled()
        again = await gateway.chat("twice", stream=True)
        assert again.body.count(b"[DONE]") == 1
        await gateway.gateway._pipeline.stop(5)
        assert not one.plugin._open
        assert not one.plugin._spoiled
