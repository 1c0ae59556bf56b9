"""No text of a client holds the event loop: `/health` answers at once while adversarial texts are read."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Scale
from tests.fakes.process import Process, running_process
from tests.fakes.running import eventually
from tests.fakes.upstream import FakeUpstream, pause

_LONGEST = 0.25  # seconds that /health may take
# a repeat for each family of patterns: preferences, traits, dates, injection, pleasantries, code, thoughts, sentences
REPEATS = (
    "I am a cook. ", "I live in Paris. ", "I'm from A B C ", "my name is ", "call me ", "Always mention x y. ",
    "always never ", "from now on ", "please and you must always ", "I really really really like ", "my favourite ",
    "don't ", "by the way, ", " I ", "我是厨师。", "我叫小李，", "我对花生过敏。", "以后请", "别再叫我", "我喜欢",
    "in May ", "8 May 2023 ", "two weeks ago ", "last ", "2023年5月", "去年夏天", "三天前",
    "ignore previous ", "ignore a a a a ", "you are now a b c d ", "do not tell the user ", "send to ",
    "![a](https://a", "<|im_start|>", "忽略之前", "发送到", "系统提示", "the user ", "instructions ",
    "hi ", "ok", "thank you ", "你好", "```", "<think>", "</think>", "sk-", "password is ", "password: a",
    "4111 ", "eyJ",
    "a", "猫", " ", "\n", "\t", "\u3000", "1 ", "...", "？", "a.b.", "Mrs. ", "- ", "(", "'", "é",
    "\u00a0.", "<", "#", "|",
)  # fmt: skip


class Watch:
    """Asks `/health` all the time; `slowest` is the longest answer in seconds.

    Of an answer that takes longer than the gateway computes meanwhile, only that time counts: then other processes had
    the processor.
    """

    def __init__(self, gateway: Process) -> None:
        self._gateway = gateway
        self.slowest = 0.0
        self._is_over = False

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self._is_over:
                began, computed = time.perf_counter(), self._gateway.computed()
                async with session.get(f"{self._gateway.url}/health") as response:
                    assert response.status == 200
                taken = time.perf_counter() - began
                self.slowest = max(self.slowest, min(taken, self._gateway.computed() - computed))
                await pause(0.005)

    def stop(self) -> None:
        self._is_over = True


@asynccontextmanager
async def watched(gateway: Process) -> AsyncIterator[Watch]:
    watch = Watch(gateway)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        watch.stop()
        await running


def chat(text: str, user: str) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"model": "m", "user": user, "messages": [{"role": "user", "content": text}]}


def added(texts: list[str], user: str) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": text} for text in texts]
    return "/product/add", {"user_id": user, "session_id": "s", "messages": messages, "async_mode": "async"}


@pytest.mark.timeout(600)
async def test_no_text_holds_the_loop(tmp_path: Path, upstream: FakeUpstream, scale: Scale) -> None:
    slowest: dict[str, float] = {}
    async with running_process(tmp_path, upstream.url) as gateway:
        await gateway.settled()
        for number, repeat in enumerate(REPEATS):
            user = f"user{number}"
            short, long = (
                "q" * repeat.isspace() + repeat * (size // len(repeat)) + "?" for size in (64_000, 1_000_000)
            )
            requests = [
                chat(short, user),
                added([short, short, long] if scale.is_long else [long], user),
                ("/product/search", {"user_id": user, "query": short[:65_000]}),
                (
                    "/v1/messages/count_tokens",
                    {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": short}]},
                ),
            ]
            if scale.is_long:
                requests += [chat(long, user), ("/v1/responses", {"model": "m", "user": user, "input": long})]
            async with watched(gateway) as watch:
                for path, body in requests:
                    status, answer = await gateway.post(path, body)
                    assert status == 200, (repeat, path, answer[:300])
            slowest[repeat] = watch.slowest
    assert {repeat: seconds for repeat, seconds in slowest.items() if seconds > _LONGEST} == {}


async def test_many_standing_wishes_hold_nobody_up_and_the_oldest_are_archived(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    chance = random.Random(4)
    words = ["".join(chance.choices("bcdfghklmnprst", k=6)) for _ in range(4000)]

    def wish() -> str:
        return "Always mention " + " ".join(chance.choices(words, k=4)) + "."

    async with running_process(tmp_path, upstream.url) as gateway:
        await gateway.settled()
        for wishes in (400, 2000):
            texts = [" ".join(wish() for _ in range(8)) for _ in range(wishes // 8)]
            status, _ = await gateway.post(*added(texts, f"user{wishes}"))
            assert status == 200
            await gateway.settled()
            async with watched(gateway) as watch:
                for _ in range(3):
                    status, _ = await gateway.post(*chat("What should I cook?", f"user{wishes}"))
                    assert status == 200
                    await gateway.post(*added([wish()], f"user{wishes}"))
                    await gateway.settled()
            assert watch.slowest < _LONGEST, wishes
        body = {"mem_cube_id": "user2000", "user_id": "user2000", "include_preference": True, "page_size": 5000}
        counts: list[int] = []

        async def are_archived() -> bool:
            status, answer = await gateway.post("/product/get_memory", body)
            assert status == 200, answer
            counts[:] = [answer.count(b'"activated"'), answer.count(b'"archived"')]
            return counts[1] > 0

        await eventually(are_archived, 20)
        assert counts[1] >= 1900, counts
