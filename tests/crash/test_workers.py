"""The promises of one process hold for several workers, whichever of them dies or freezes. Run with `--workers 3`."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Scale
from tests.crash.test_crash import Load, check
from tests.fakes.process import Process, frozen, is_running, running_process
from tests.fakes.running import eventually
from tests.fakes.upstream import FakeUpstream, pause
from tests.fakes.worker_processes import Pinned, all_ready, owner_of, pinned_to_each, worker_pids

pytestmark = [pytest.mark.several_workers, pytest.mark.timeout(3_000)]

_VISIBLE = 5.0  # seconds for a memory to reach all workers: ten times what is promised, for a busy machine
_FROZEN = 10.0


@asynccontextmanager
async def loaded(gateway: Process, load: Load, clients: int = 4) -> AsyncIterator[None]:
    """Keeps clients busy; at the end each gets its last answer."""
    loading = asyncio.create_task(load.run(gateway, clients))
    try:
        yield
    finally:
        load.is_over = True
        await loading


async def acknowledge(load: Load, count: int) -> None:
    """Wait until so many more requests were acknowledged."""
    target = len(load.acknowledged) + count
    await eventually(lambda: len(load.acknowledged) >= target, 60)


async def is_recalled(connection: Pinned, upstream: FakeUpstream, question: str, text: str, user: str = "ada") -> bool:
    upstream.received.clear()
    status, answer = await connection.chat(question, user, mode="read")
    assert status == 200, answer
    return text.encode() in upstream.last.body


async def ids_of(gateway: Process, user: str) -> list[str]:
    body: Any = {"user_id": user, "query": "parrot", "relativity": 0}
    status, answer = await gateway.post("/product/search", body)
    assert status == 200, answer
    return [item["id"] for group in json.loads(answer)["data"]["text_mem"] for item in group["memories"]]


async def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9_of_any_worker(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale
) -> None:
    chance, load = random.Random(scale.seed), Load(is_persistent=True)
    kills, count = scale(4, 100), scale(150, 5_000)
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
        await all_ready(gateway)
        async with loaded(gateway, load):
            for number in range(kills):
                await acknowledge(load, count // kills + 1)
                await asyncio.sleep(chance.uniform(0.0, 0.3))
                victim = owner_of(gateway) if number == 0 else chance.choice(worker_pids(gateway))
                os.kill(victim, signal.SIGKILL)
                await eventually(partial(has_ended, victim), 10)
                await all_ready(gateway)
        assert len(load.acknowledged) >= count
        check(await gateway.texts(), load.acknowledged)


def has_ended(*pids: int) -> bool:
    return not any(map(is_running, pids))


async def test_workers_end_with_their_supervisor_and_nothing_is_lost(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale
) -> None:
    load = Load()
    for _ in range(scale(1, 10)):
        async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
            await all_ready(gateway)
            loading = asyncio.create_task(load.run(gateway))
            await acknowledge(load, 50)
            workers = worker_pids(gateway)
            os.kill(gateway.pid, signal.SIGKILL)
            await loading
            await eventually(partial(has_ended, *workers), 30)
    async with running_process(tmp_path, upstream.url) as gateway:
        check(await gateway.texts(), load.acknowledged)


@pytest.mark.parametrize("way", ["memory", "user"])
async def test_a_deletion_holds_in_all_workers_though_one_is_frozen(
    tmp_path: Path, upstream: FakeUpstream, way: str
) -> None:
    asked = ("What is the name of my parrot?", "Zanzibar")
    async with running_process(tmp_path, upstream.url) as gateway:
        await all_ready(gateway)
        owner = owner_of(gateway)
        async with pinned_to_each(gateway) as connections:
            assert (await connections[owner].chat("My parrot is called Zanzibar.", "ada"))[0] == 200
            for connection in connections.values():
                await eventually(partial(is_recalled, connection, upstream, *asked), _VISIBLE)
            path, body = {
                "memory": (
                    "/product/delete_memory",
                    {"memory_ids": await ids_of(gateway, "ada"), "writable_cube_ids": ["ada"]},
                ),
                "user": ("/v1/memory/forget", {"user": "ada"}),
            }[way]
            victim = next(pid for pid in connections if pid != owner)
            with frozen(victim):
                began = time.monotonic()
                async with connections[owner].session.post(gateway.url + path, json=body) as response:
                    assert response.status == 200, await response.read()
                assert time.monotonic() - began < 10
                assert has_ended(victim), "it was ended before the answer: it would go on with what it knew"
            for pid, connection in connections.items():
                if pid != victim:
                    assert not await is_recalled(connection, upstream, *asked)
        await all_ready(gateway)
        async with pinned_to_each(gateway) as connections:
            for connection in connections.values():
                assert not await is_recalled(connection, upstream, *asked)


async def test_chats_go_on_while_the_owner_is_frozen_and_nothing_is_lost(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    texts = list[str]()
    async with running_process(tmp_path, upstream.url) as gateway:
        await all_ready(gateway)
        owner = owner_of(gateway)
        async with pinned_to_each(gateway) as connections:
            followers = [connection for pid, connection in connections.items() if pid != owner]
            for connection in connections.values():
                assert (await connection.chat("My parrot is called Zanzibar.", "ada"))[0] == 200
            slowest = 0.0
            with frozen(owner):
                end = time.monotonic() + _FROZEN
                while time.monotonic() < end:
                    for connection in followers:
                        texts.append(f"Cargo {len(texts)} is on board.")
                        began = time.monotonic()
                        assert (await connection.chat(texts[-1], "bob"))[0] == 200
                        slowest = max(slowest, time.monotonic() - began)
                    await pause(0.1)
            assert slowest < 3
            await all_ready(gateway)
            check(await gateway.texts(), texts)
            for connection in connections.values():
                asked = ("Is cargo 3 on board?", "Cargo 3 is on board.", "bob")
                await eventually(partial(is_recalled, connection, upstream, *asked), _VISIBLE)


async def test_a_memory_of_any_worker_is_recalled_by_all(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_process(tmp_path, upstream.url) as gateway:
        await all_ready(gateway)
        async with pinned_to_each(gateway) as connections:
            for number, speaker in enumerate(connections.values()):
                name = f"Zanzibar{number}"
                assert (await speaker.chat(f"My parrot number {number} is called {name}.", "ada"))[0] == 200
                for connection in connections.values():
                    asked = (f"What is my parrot number {number} called?", name)
                    await eventually(partial(is_recalled, connection, upstream, *asked), _VISIBLE)
