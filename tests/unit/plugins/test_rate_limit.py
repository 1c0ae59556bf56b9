import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.hooks import Reject
from gateway.storage.counters import SharedCounters
from gateway.storage.sqlite.counters import SqliteCounters
from gateway.testing import PluginUnderTest, turn
from gateway.turn import Answer, Principal, Right
from plugins.rate_limit import RateLimit
from tests.fakes.clients import ROOT
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, streams


class Limited(PluginUnderTest[RateLimit]):
    """The plugin with a clock that begins at a whole minute."""

    def __init__(self, folder: Path, **config: Any) -> None:
        super().__init__(RateLimit(RateLimit.Config(**config)), folder)
        self.now = 1_800_000_000.0
        self.counters = SharedCounters(SqliteCounters(folder / "counters.sqlite"), clock=lambda: self.now)
        self.services = replace(self.services, counters=self.counters)

    async def ask(self, user: str = "ada", key: str = "k", tokens: int = 0, cost: float | None = None) -> Reject | None:
        asked = turn(user=user, principal=Principal("t", frozenset(Right), name=key))
        try:
            await self.call("on_request", asked)
        except Reject as refused:
            return refused
        await self.call("on_response", asked, Answer("x", prompt_tokens=tokens or 1, completion_tokens=1, cost=cost))
        return None


async def test_requests_of_a_user_are_limited_within_a_minute_that_slides(tmp_path: Path) -> None:
    limit = Limited(tmp_path, requests_per_minute_per_user=5)
    await limit.plugin.start(limit.services)
    for _ in range(5):
        assert await limit.ask() is None
        limit.now += 1
    refused = await limit.ask()
    assert refused is not None
    assert (refused.status, refused.code, refused.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert await limit.ask(user="bob") is None
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 75
    limit.now += wait
    assert await limit.ask() is None, "who waits as long as told is served"
    limit.now += 600
    for _ in range(5):
        assert await limit.ask() is None
    assert limit.counts == {"requests_per_minute_per_user": 1}


@pytest.mark.parametrize("offset", [0, 17, 30, 59])
async def test_whoever_waits_as_told_is_served(tmp_path: Path, offset: int) -> None:
    limit = Limited(tmp_path, tokens_per_minute_per_key=1000)
    limit.now += offset
    await limit.plugin.start(limit.services)
    for _ in range(4):
        while (refused := await limit.ask(tokens=400)) is None:
            limit.now += 1
        limit.now += int(refused.headers["retry-after"])
        assert await limit.ask(user="somebody else", tokens=1) is None


async def test_a_days_tokens_come_back_the_next_day_and_outlast_a_restart(tmp_path: Path) -> None:
    limit = Limited(tmp_path, tokens_per_day_per_user=100)
    await limit.plugin.start(limit.services)
    assert await limit.ask(tokens=150) is None
    await limit.counters.stop()
    again = Limited(tmp_path, tokens_per_day_per_user=100)
    await again.plugin.start(again.services)
    refused = await again.ask()
    assert refused is not None
    assert (refused.code, refused.headers["x-should-retry"]) == ("insufficient_quota", "false")
    again.now += int(refused.headers["retry-after"])
    assert await again.ask() is None


async def test_a_file_of_an_earlier_version_that_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "days.json").write_bytes(b"{broken")
    limit = Limited(tmp_path, tokens_per_day_per_key=100)
    await limit.plugin.start(limit.services)
    assert await limit.ask() is None


async def test_counts_of_an_earlier_version_are_taken_over_once(tmp_path: Path) -> None:
    limit = Limited(tmp_path, tokens_per_day_per_user=100, dollars_per_30_days_per_user=1)
    digest = hashlib.sha256(b"t\0ada").hexdigest()[:24]
    day, month = limit.now // 86_400 * 86_400, limit.now // (30 * 86_400) * 30 * 86_400
    rows = [["tokens_per_day", "user", digest, day, 60.0], ["dollars_per_30_days", "user", digest, month, 0.5]]
    rows += [["tokens_per_day", "user", digest, day - 86_400, 500.0]]
    (tmp_path / "days.json").write_text(json.dumps(rows))
    await limit.plugin.start(limit.services)
    second = Limited(tmp_path, tokens_per_day_per_user=100)
    await second.plugin.start(second.services)
    assert await second.ask(tokens=70) is None, "the first one has taken them"
    assert await limit.ask(tokens=41) is None
    refused = await limit.ask()
    assert refused is not None
    assert refused.code == "insufficient_quota"
    await limit.counters.stop()
    await second.counters.stop()


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
    limit = Limited(tmp_path, dollars_per_day_per_user=0.5, dollars_per_30_days_per_key=0.9)
    limit.now = limit.now // (30 * 86_400) * 30 * 86_400
    await limit.plugin.start(limit.services)
    assert await limit.ask(cost=0.3) is None
    assert await limit.ask() is None, "what has no price costs nothing"
    assert await limit.ask(cost=0.3) is None
    refused = await limit.ask()
    assert refused is not None
    assert refused.code == "insufficient_quota"
    assert await limit.ask(user="bob", cost=0.4) is None
    limit.now += int(refused.headers["retry-after"])
    refused = await limit.ask()
    assert refused is not None, "the key has used up its thirty days"
    limit.now += int(refused.headers["retry-after"])
    assert await limit.ask() is None


async def test_a_limit_holds_with_memory_off_and_for_answers_that_nobody_counted(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    limit = {"use": "rate_limit", "config": {"tokens_per_minute_per_user": 40}}
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[limit])) as gateway:
        upstream.script = streams([*(chunk({"content": "word "}) for _ in range(50)), chunk({}, "stop"), DONE])
        off = {"x-memory-mode": "off"}
        assert (await gateway.chat("hi", stream=True, headers=off)).status == 200
        await gateway.finished()
        assert (await gateway.chat("hi", stream=True, headers=off)).status == 429


_SHARING = """
import asyncio, json, sys, time
from dataclasses import replace
from pathlib import Path
from gateway.storage.counters import SharedCounters
from gateway.storage.sqlite.counters import SqliteCounters
from tests.unit.plugins.test_rate_limit import Limited

async def ask(folder, begin, config, amounts):
    limit = Limited(folder, **config)
    month = limit.now // (30 * 86_400) * 30 * 86_400
    clock = lambda: month + time.time() - begin
    counters = SharedCounters(SqliteCounters(folder / "counters.sqlite"), is_shared=True, clock=clock)
    limit.services = replace(limit.services, clock=clock, counters=counters)
    await limit.plugin.start(limit.services)
    served = [begin]
    while time.time() < served[-1] + 2.5:
        if await limit.ask(**amounts) is None:
            served.append(time.time())
        await asyncio.sleep(0.02)
    await counters.stop()
    return served[1:]

async def ask_all(folder, cases):
    print("ready", flush=True)
    begin = float(sys.stdin.readline())
    served = await asyncio.gather(*(ask(folder / str(n), begin, *case) for n, case in enumerate(cases)))
    print(json.dumps(served))

asyncio.run(ask_all(Path(sys.argv[1]), json.loads(sys.argv[2])))
"""
_CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"requests_per_minute_per_user": 240}, {}),
    ({"tokens_per_day_per_key": 2_640}, {"tokens": 10}),  # and one of the answer
    ({"dollars_per_30_days_per_user": 60}, {"cost": 0.25}),
]
_SERVED = 240  # in each case


def test_a_limit_holds_for_three_processes_together(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _SHARING, str(tmp_path), json.dumps(_CASES)]
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(arguments, **streams) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    begin = f"{time.time()}\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(begin)
        process.stdin.flush()
    outputs = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    for number, case in enumerate(_CASES):
        moments = sorted(moment for served in outputs for moment in served[number])
        assert len(moments) >= _SERVED, ("refused below the limit", case)
        assert len(moments) < 2 * _SERVED, ("each counts for itself", case)
        assert moments[-1] - moments[_SERVED - 1] < 2, "traffic of a second, and of one more on a busy machine"
