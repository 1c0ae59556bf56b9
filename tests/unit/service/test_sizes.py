"""The numbers of memories in scopes: counted once, again after a change, and within a time limit."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from gateway.identity import scope_of
from gateway.service.sizes import ScopeSizes
from gateway.storage.errors import StorageError
from gateway.storage.rows import Row
from gateway.storage.values import ScopeSize
from tests.fakes.made import record
from tests.fakes.running import eventually

ADA, BOB = scope_of("t", "ada"), scope_of("t", "bob")


class Counter:
    """A store that counts when it is let, and working sets without rows of their own."""

    def __init__(self) -> None:
        self.counts = {ADA.value: 3}
        self.asked: list[list[str]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False

    async def sizes(self, scopes: Iterable[str]) -> dict[str, ScopeSize]:
        values = list(scopes)
        self.asked.append(values)
        counted = {value: ScopeSize(self.counts[value], 1.0) for value in values if value in self.counts}
        await self.go_on.wait()
        if self.fails:
            raise StorageError("store", "broken")
        return counted

    async def overlay_sizes(self, stored: Mapping[str, ScopeSize]) -> dict[str, ScopeSize]:
        return dict(stored)


@pytest.fixture
async def counter() -> Counter:
    return Counter()


def sizes_of(counter: Any) -> ScopeSizes:
    async def searchable(timeout: float) -> bool:
        return True

    sizes = ScopeSizes(counter, searchable)
    sizes.ready(counter)
    return sizes


def row(scope: str) -> Row:
    return Row(record=record("text", scope=scope), vector=None, embedder="", terms=(), tokens=1, seq=1)


async def test_a_scope_is_counted_once_and_again_after_a_change(counter: Counter) -> None:
    sizes = sizes_of(counter)
    for _ in range(3):
        assert await sizes.count([ADA, BOB], 5) == 3, "a scope without rows has none"
    assert counter.asked == [[ADA.value, BOB.value]]
    counter.counts[BOB.value] = 1
    sizes.note([row(BOB.value)])
    assert await sizes.count([ADA, BOB], 5) == 4
    assert counter.asked[1:] == [[BOB.value]]


async def test_counts_are_not_kept_where_others_store_rows(counter: Counter) -> None:
    async def searchable(timeout: float) -> bool:
        return True

    sizes = ScopeSizes(counter, searchable, is_shared=True)  # type: ignore[arg-type]
    sizes.ready(counter)  # type: ignore[arg-type]
    assert await sizes.count([ADA], 5) == 3
    counter.counts[ADA.value] = 4
    assert await sizes.count([ADA], 5) == 4


async def test_a_count_that_takes_too_long_goes_on_for_later_calls(counter: Counter) -> None:
    sizes = sizes_of(counter)
    counter.go_on.clear()
    assert await sizes.count([ADA], 0.01) is None
    assert await sizes.within([ADA], 0.01) == {}
    counter.go_on.set()
    assert await sizes.count([ADA], 5) == 3
    assert len(counter.asked) == 1, "one measurement serves all callers"
    counter.go_on.clear()
    assert await sizes.within([ADA, BOB], 0.01) == {ADA.value: ScopeSize(3, 1.0)}, "what is known is there"
    await sizes.stop()


async def test_a_change_during_a_count_is_not_missed(counter: Counter) -> None:
    sizes = sizes_of(counter)
    counter.go_on.clear()
    counting = asyncio.create_task(sizes.count([ADA], 5))
    await eventually(lambda: bool(counter.asked))
    counter.counts[ADA.value] = 4
    sizes.note([row(ADA.value)])
    counter.go_on.set()
    assert await counting == 4


async def test_a_broken_store_and_one_that_loads_give_no_number(counter: Counter) -> None:
    sizes = sizes_of(counter)
    counter.fails = True
    assert await sizes.count([ADA], 5) is None
    counter.fails = False
    assert await sizes.count([ADA], 5) == 3

    async def searchable(timeout: float) -> bool:
        return False

    store: Any = counter
    assert await ScopeSizes(store, searchable).count([ADA], 5) is None
