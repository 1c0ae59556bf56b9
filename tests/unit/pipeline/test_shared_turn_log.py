"""Tests of the turns of all workers in the log of the owner."""

import tempfile
import time
from pathlib import Path

from gateway.formats.base import Answer
from gateway.pipeline.shared_turn_log import collect_turns
from gateway.pipeline.turn_end import TurnEnd
from gateway.pipeline.turn_feed import TurnFeed
from gateway.pipeline.turn_log import TurnLog, serialize_turn
from gateway.testing import turn
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from tests.fakes.running import eventually


def log(limit: int = 100) -> TurnLog:
    return TurnLog(limit, TurnFeed(serialize_turn, 2), with_content=True)


def end() -> TurnEnd:
    return TurnEnd(ended=time.perf_counter(), upstream="up", model="m", status=200)


async def test_entries_of_all_workers_get_increasing_numbers_in_one_log() -> None:
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        path = str(Path(folder) / "bus")
        owner = OwnerPeers(3, path, serving=lambda: (), end=lambda _: None)
        peers: list[Peers] = [owner, FollowerPeers(1, 3, path), FollowerPeers(2, 3, path)]
        logs = [collect_turns(log(), entry) for entry in peers]
        for entry in peers:
            await entry.start()
        await eventually(lambda: len(owner.others) == 2)
        try:
            for number in range(10):
                for member in logs:
                    member.add(turn(f"question {number}", id=f"{number}"), Answer("Hi."), end())
            await eventually(lambda: len(logs[0].entries()) == 30)
            numbers = [entry.number for entry in logs[0].entries()]
            assert numbers == list(range(numbers[0], numbers[0] + 30))
            assert {entry.query for entry in logs[0].entries()} == {f"question {number}" for number in range(10)}
            assert [len(member.entries()) for member in logs[1:]] == [0, 0]
        finally:
            for entry in peers[::-1]:
                await entry.stop()


async def test_a_log_that_is_off_sends_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        path = str(Path(folder) / "bus")
        owner = OwnerPeers(2, path, serving=lambda: (), end=lambda _: None)
        follower = FollowerPeers(1, 2, path)
        received: list[object] = []
        owner.on("turn", received.append)
        owner.on("ping", lambda _: "pong")
        member = collect_turns(log(0), follower)
        await owner.start()
        await follower.start()
        try:
            assert await follower.connected(5)
            member.add(turn(), Answer("Hi."), end())
            assert await follower.ask(0, "ping", None, 5) == "pong"  # messages are handled in their order
            assert received == []
        finally:
            await follower.stop()
            await owner.stop()


def test_a_single_process_has_a_plain_log() -> None:
    own = log()
    assert collect_turns(own, Peers()) is own
