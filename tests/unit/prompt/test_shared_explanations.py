"""Tests of finding the worker that can explain a turn."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.memory.recalled import Block, MemoryStatus, Recalled
from gateway.prompt.explain import Explanations
from gateway.prompt.shared_explanations import SharedExplanations
from gateway.testing import turn
from gateway.turn import Principal, Right
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from tests.fakes.running import eventually

OWN = Principal("default", frozenset(Right), name="own")
OTHER_TENANT = Principal("other", frozenset(Right), name="other")
OTHER_USER = Principal("default", frozenset(Right), user="eve", name="eve's")


def keep(explanations: Explanations, id_: str, user: str = "ada") -> None:
    recalled = Recalled(MemoryStatus.HIT)
    entry = turn("What about my cat?", user=user, id=id_, recalled=recalled, block=Block("", (), 0))
    explanations.keep(entry, recalled, budget=100, most=10)


@asynccontextmanager
async def workers() -> AsyncIterator[tuple[SharedExplanations, list[Explanations]]]:
    """What the owner finds in its own explanations and in those of two other workers."""
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        path = str(Path(folder) / "bus")
        owner = OwnerPeers(3, path, serving=lambda: (1, 2), end=lambda _: None)
        peers: list[Peers] = [owner, FollowerPeers(1, 3, path), FollowerPeers(2, 3, path)]
        local = [Explanations(10, with_prompts=True) for _ in peers]
        shared = [SharedExplanations(*pair) for pair in zip(local, peers, strict=True)]
        for entry in peers:
            await entry.start()
        await eventually(lambda: len(owner.others) == 2)
        try:
            yield shared[0], local
        finally:
            for entry in peers[::-1]:
                await entry.stop()


async def find(shared: SharedExplanations, id_: str, principal: Principal = OWN) -> Any:
    explanation = await shared.find(id_, principal)
    return None if explanation is None else orjson.loads(orjson.dumps(explanation))["request_id"]


async def test_the_worker_that_has_a_turn_explains_it() -> None:
    async with workers() as (shared, local):
        for number, explanations in enumerate(local):
            keep(explanations, str(number) * 32)
        for number in range(3):
            assert await find(shared, str(number) * 32) == str(number) * 32
            assert await find(shared, str(number) * 6) == str(number) * 32
            assert await find(shared, str(number) * 5) is None
        assert await find(shared, "f" * 32) is None


async def test_a_prefix_of_turns_of_two_workers_is_not_unique() -> None:
    async with workers() as (shared, local):
        keep(local[0], "abcdef" + "0" * 26)
        keep(local[2], "abcdef" + "1" * 26)
        assert await find(shared, "abcdef") is None
        assert await find(shared, "abcdef1") == "abcdef" + "1" * 26
        assert await find(shared, "abcdef" + "1" * 26) == "abcdef" + "1" * 26


async def test_foreign_turns_are_unknown_in_every_worker() -> None:
    async with workers() as (shared, local):
        for number, explanations in enumerate(local):
            keep(explanations, str(number) * 32)
            for principal in (OTHER_TENANT, OTHER_USER):
                assert await find(shared, str(number) * 32, principal) is None
                assert await find(shared, str(number) * 8, principal) is None


async def test_a_forgotten_turn_is_not_explained() -> None:
    async with workers() as (shared, local):
        keep(local[1], "a" * 32)
        keep(local[1], "b" * 32, user="eve")
        local[1].forget_owner("default", "ada", None)
        assert await find(shared, "a" * 32) is None
        assert await find(shared, "b" * 32, OTHER_USER) == "b" * 32


async def test_a_single_process_asks_nobody() -> None:
    explanations = Explanations(10)
    shared = SharedExplanations(explanations, Peers())
    keep(explanations, "a" * 32)
    assert await find(shared, "a" * 32) == "a" * 32
    assert await find(shared, "c" * 32) is None
