import dataclasses
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.hooks import Reject, Services
from gateway.turn import Answer, Principal, Right
from plugins.rate_limit import RateLimit
from tests.fakes.made import turn
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, streams


class Made:
    """A started plugin, with a clock that a test sets."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.now = 1_800_000_000.0
        self.counted: Counter[str] = Counter()
        self.plugin = RateLimit(RateLimit.Config(**config))
        self.services = Services(logging.getLogger("x"), folder, lambda: self.now, self._count)

    def _count(self, kind: str) -> None:
        self.counted[kind] += 1

    async def ask(self, user: str = "ada", key: str = "k", tokens: int = 0, cost: float | None = None) -> Reject | None:
        made = dataclasses.replace(turn(), user=user, principal=Principal("t", frozenset(Right), name=key))
        try:
            await self.plugin.on_request(made)
        except Reject as refused:
            return refused
        await self.plugin.on_response(made, Answer("x", prompt_tokens=tokens or 1, completion_tokens=1, cost=cost))
        return None


async def test_requests_of_a_user_are_limited_within_a_minute_that_slides(tmp_path: Path) -> None:
    made = Made(tmp_path, requests_per_minute_per_user=5)
    await made.plugin.start(made.services)
    for _ in range(5):
        assert await made.ask() is None
        made.now += 1
    refused = await made.ask()
    assert refused is not None
    assert (refused.status, refused.code, refused.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert await made.ask(user="bob") is None
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 75
    made.now += wait
    assert await made.ask() is None, "who waits as long as told is served"
    made.now += 600
    for _ in range(5):
        assert await made.ask() is None
    assert made.counted == {"requests_per_minute_per_user": 1}


@pytest.mark.parametrize("offset", [0, 17, 30, 59])
async def test_whoever_waits_as_told_is_served(tmp_path: Path, offset: int) -> None:
    made = Made(tmp_path, tokens_per_minute_per_key=1000)
    made.now += offset
    await made.plugin.start(made.services)
    for _ in range(4):
        while (refused := await made.ask(tokens=400)) is None:
            made.now += 1
        made.now += int(refused.headers["retry-after"])
        assert await made.ask(user="somebody else", tokens=1) is None


async def test_a_days_tokens_come_back_the_next_day_and_outlast_a_restart(tmp_path: Path) -> None:
    made = Made(tmp_path, tokens_per_day_per_user=100)
    await made.plugin.start(made.services)
    assert await made.ask(tokens=150) is None
    await made.plugin.stop()
    again = Made(tmp_path, tokens_per_day_per_user=100)
    await again.plugin.start(again.services)
    refused = await again.ask()
    assert refused is not None
    assert (refused.code, refused.headers["x-should-retry"]) == ("insufficient_quota", "false")
    again.now += int(refused.headers["retry-after"])
    assert await again.ask() is None


async def test_a_file_that_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "days.json").write_bytes(b"{broken")
    made = Made(tmp_path, tokens_per_day_per_key=100)
    await made.plugin.start(made.services)
    assert await made.ask() is None


async def test_a_chat_over_its_limit_gets_429_in_its_own_format(tmp_path: Path, upstream: FakeUpstream) -> None:
    plugins = [{"use": "rate_limit", "config": {"requests_per_minute_per_user": 2}}]
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=plugins)) as gateway:
        for _ in range(2):
            assert (await gateway.chat("hi")).status == 200
        refused = await gateway.chat("hi")
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        message = await gateway.post("/v1/messages", body, {"x-memory-user": "ada"})
        assert (message.status, message.json["error"]["type"]) == (429, "rate_limit_error")
        assert (await gateway.chat("hi", user="bob")).status == 200
        assert len(upstream.received) == 3


async def test_money_is_limited_by_the_day_and_by_thirty(tmp_path: Path) -> None:
    made = Made(tmp_path, dollars_per_day_per_user=0.5, dollars_per_30_days_per_key=0.9)
    made.now = made.now // (30 * 86_400) * 30 * 86_400
    await made.plugin.start(made.services)
    assert await made.ask(cost=0.3) is None
    assert await made.ask() is None, "what has no price costs nothing"
    assert await made.ask(cost=0.3) is None
    refused = await made.ask()
    assert refused is not None
    assert refused.code == "insufficient_quota"
    assert await made.ask(user="bob", cost=0.4) is None
    made.now += int(refused.headers["retry-after"])
    refused = await made.ask()
    assert refused is not None, "the key has used up its thirty days"
    made.now += int(refused.headers["retry-after"])
    assert await made.ask() is None


async def test_a_limit_holds_with_memory_off_and_for_answers_that_nobody_counted(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    limit = {"use": "rate_limit", "config": {"tokens_per_minute_per_user": 40}}
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[limit])) as gateway:
        upstream.script = streams([*(chunk({"content": "word "}) for _ in range(50)), chunk({}, "stop"), DONE])
        off = {"x-memory-mode": "off"}
        assert (await gateway.chat("hi", stream=True, headers=off)).status == 200
        await gateway.gateway._tasks.stop(5)
        assert (await gateway.chat("hi", stream=True, headers=off)).status == 429
