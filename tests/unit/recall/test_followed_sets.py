"""How old the sets of a replica are: while it cannot read the log, and while it catches up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.config import RecallConfig
from gateway.memory.recalled import MemoryStatus
from gateway.recall.followed_sets import FollowedSets, LogFollower, LogStep
from gateway.recall.recall import Recall
from gateway.recall.startup import Startup
from gateway.storage.errors import StorageError
from gateway.storage.rows import Row
from gateway.storage.values import JournalEntry
from gateway.telemetry import Telemetry
from tests.fakes.made import SCOPE, turn
from tests.fakes.running import eventually
from tests.unit.recall.test_recall import NoEmbedder, Only, nothing
from tests.unit.recall.test_working_sets import Store


@dataclass(frozen=True)
class Step:
    seq: int
    newest_at: float | None
    entries: Sequence[JournalEntry] = ()
    changed: Collection[str] = ()
    dropped: Collection[str] = ()
    is_complete: bool = True


class Log:
    """A log that gives the steps of a test."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Step] = asyncio.Queue()

    async def follow(self, after: int, wanted: Callable[[Collection[str]], Collection[str]]) -> AsyncIterator[LogStep]:
        while True:
            yield await self.steps.get()

    async def unstored_of(self, scope: str) -> Sequence[JournalEntry]:
        return ()


class Builder:
    async def build(self, entries: Sequence[JournalEntry]) -> list[Row]:
        return []


@asynccontextmanager
async def followed(log: Log, told: list[Collection[str]]) -> AsyncIterator[tuple[FollowedSets, LogFollower]]:
    sets = FollowedSets(Store(), Telemetry(), max_rows=9, max_bytes=10**9, log=log, builder=Builder())  # type: ignore[arg-type]  # of this test's own
    follower = LogFollower(log, sets, Builder(), [told.append])  # type: ignore[arg-type]  # of this test's own
    await follower.start(0)
    try:
        yield sets, follower
    finally:
        await follower.stop()
        await sets.stop()


@pytest.mark.parametrize(
    ("age", "status", "count"),
    [(0.0, MemoryStatus.PARTIAL, 1), (10.0, MemoryStatus.DEGRADED, 1), (70.0, MemoryStatus.DEGRADED, 0)],
)
async def test_memories_are_marked_after_five_seconds_and_not_used_after_a_minute_without_the_log(
    age: float, status: MemoryStatus, count: int
) -> None:
    log = Log()
    async with followed(log, []) as (sets, follower):
        recall = Recall(Only(NoEmbedder()), RecallConfig(), Telemetry(), Startup(lambda: "ready", 0.0), nothing)  # type: ignore[arg-type]  # of this test's own
        recall.ready(sets)
        log.steps.put_nowait(Step(1, time.monotonic() - age))
        assert await follower.reached(1, 5)
        await eventually(lambda: follower.lag >= age)
        recalled = await recall.recall(turn("What is my stored fact?"))
        assert (recalled.status, len(recalled.memories)) == (status, count)
        assert recall.is_usable == (count > 0)
        assert (recalled.reason == "stale") == (age == 10.0)


async def test_sets_are_not_fresh_before_they_have_the_newest_entry() -> None:
    log = Log()
    async with followed(log, []) as (sets, follower):
        log.steps.put_nowait(Step(1, time.monotonic() - 100))
        await eventually(lambda: not sets.is_usable)
        log.steps.put_nowait(Step(2, None))
        assert await follower.reached(2, 5)
        with pytest.raises(StorageError, match="may have been missed"):
            await sets.for_recall(SCOPE)
        log.steps.put_nowait(Step(3, time.monotonic()))
        await eventually(lambda: sets.is_fresh)
        assert len(await sets.whole(SCOPE)) == 1


async def test_who_fell_behind_too_far_is_told_of_changes_of_any_scope() -> None:
    log, told = Log(), list[Collection[str]]()
    async with followed(log, told):
        log.steps.put_nowait(Step(1, time.monotonic()))
        log.steps.put_nowait(Step(2, time.monotonic(), is_complete=False))
        await eventually(lambda: bool(told))
        assert told == [()]
