import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.storage.counters import SharedCounters
from gateway.storage.sqlite.counters import SqliteCounters
from tests.fakes.running import eventually
from tests.fakes.upstream import pause

LATER = time.time() + 3_600
Build = Callable[..., SharedCounters]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    """Opens counters on one file, as another process would."""
    opened = list[SharedCounters]()

    def open_counters(*, is_shared: bool = True, clock: Callable[[], float] = time.time) -> SharedCounters:
        table = SqliteCounters(tmp_path / "counters.sqlite", is_owner=not opened)
        opened.append(SharedCounters(table, is_shared=is_shared, clock=clock))
        return opened[-1]

    yield open_counters
    for counters in opened:
        await counters.stop()


async def value(counters: SharedCounters, name: str = "a") -> float:
    return (await counters.get([name]))[name]


async def test_without_a_table_counters_are_sums_until_they_expire() -> None:
    moment = 1_000.0
    counters = SharedCounters(clock=lambda: moment)
    counters.add("a", 1, 1_060)
    counters.add("a", 2.5, 1_060)
    assert await counters.get(["a", "b"]) == {"a": 3.5, "b": 0}
    moment = 1_060
    assert await value(counters) == 0
    counters.add("a", 1, 1_120)
    assert await value(counters) == 1


async def test_alone_sums_are_exact_at_once_and_survive_a_restart(build: Build) -> None:
    counters = build(is_shared=False)
    for number in range(1, 6):
        counters.add("a", 1, LATER)
        assert await value(counters) == number
    await counters.stop()
    counters = build(is_shared=False)
    assert await value(counters) == 5
    counters.add("a", 1, LATER)
    assert await value(counters) == 6


async def test_alone_the_table_is_not_read_after_the_start(build: Build, tmp_path: Path) -> None:
    counters = build(is_shared=False)
    await counters.get([])
    with closing(sqlite3.connect(tmp_path / "counters.sqlite", isolation_level=None)) as other:
        other.execute("INSERT INTO counters VALUES ('a', 7, ?)", (LATER,))
        assert await value(counters) == 0


async def test_each_amount_counts_once_for_all(build: Build) -> None:
    workers = [build() for _ in range(3)]

    async def count(counters: SharedCounters) -> None:
        for number in range(200):
            counters.add(f"name {number % 3}", 1, LATER)
            await counters.get(["name 0", "name 1"])
            if number % 10 == 0:
                await pause(0.01)

    await asyncio.gather(*map(count, workers))
    expected = {"name 0": 201, "name 1": 201, "name 2": 198}

    for counters in workers:
        sums = dict[str, float]()

        async def are_complete(counters: SharedCounters = counters, sums: dict[str, float] = sums) -> bool:
            sums |= await counters.get(expected)
            assert all(sums[name] <= expected[name] for name in expected), "doubled"
            return sums == expected

        await eventually(are_complete, 5)
        assert await counters.get(expected) == expected


async def test_a_sum_that_others_added_to_is_known_within_a_second(build: Build) -> None:
    first, second = build(), build()
    assert await value(first) == await value(second) == 0
    first.add("a", 1, LATER)
    began = time.monotonic()

    async def is_known() -> bool:
        return await value(second) == 1

    await eventually(is_known, 5)
    assert time.monotonic() - began < 2, "a second, and one more for a busy machine"


async def test_an_expired_sum_begins_again_in_all(build: Build) -> None:
    now = time.time()
    moment = now
    first, second = build(clock=lambda: moment), build(clock=lambda: moment)
    first.add("a", 5, now + 60)

    async def is_known() -> bool:
        return await value(second) == 5

    await eventually(is_known, 5)
    moment = now + 60
    assert await value(first) == await value(second) == 0
    first.add("a", 1, now + 120)
    second.add("a", 1, now + 120)

    async def is_sum() -> bool:
        return await value(first) == await value(second) == 2

    await eventually(is_sum, 5)


async def test_a_table_that_cannot_be_opened_leaves_the_sums_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "counters.sqlite").mkdir()
    counters = SharedCounters(SqliteCounters(tmp_path / "counters.sqlite"), is_shared=True)
    counters.add("a", 1, LATER)
    assert await value(counters) == 1
    (tmp_path / "counters.sqlite").rmdir()
    other = SharedCounters(SqliteCounters(tmp_path / "counters.sqlite"), is_shared=True)

    async def is_shared() -> bool:
        return await value(other) == 1

    await eventually(is_shared, 10)
    await counters.stop()
    await other.stop()


async def test_a_table_that_does_not_answer_delays_nobody_and_loses_nothing(build: Build, tmp_path: Path) -> None:
    counters = build()
    counters.add("a", 1, LATER)
    assert await value(counters) == 1
    with closing(sqlite3.connect(tmp_path / "counters.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        counters.add("a", 1, LATER)
        longest, end = 0.0, time.monotonic() + 1.5
        while time.monotonic() < end:
            began = time.monotonic()
            assert await value(counters) >= 1
            longest = max(longest, time.monotonic() - began)
            await pause(0.02)
        assert longest < 1
        other.execute("ROLLBACK")
    second = build()

    async def is_shared() -> bool:
        return await value(second) == 2

    await eventually(is_shared, 10)
    assert await value(counters) == 2


async def test_owners_do_not_see_the_counters_of_others(build: Build) -> None:
    counters = build(is_shared=False)
    first, second = counters.named("first"), counters.named("second")
    first.add("a", 1, LATER)
    assert await first.get(["a"]) == {"a": 1}
    assert await second.get(["a"]) == {"a": 0}
