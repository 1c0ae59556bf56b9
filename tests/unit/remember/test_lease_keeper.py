import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.remember.lease_keeper import LeaseKeeper, shares
from gateway.storage.values import Held
from tests.fakes.running import eventually

EVERY = 0.03


@pytest.mark.parametrize(
    ("counts", "buckets", "expected"),
    [
        ({"a": 0}, 16, {"a": 16}),
        ({"a": 16, "b": 0}, 16, {"a": 8, "b": 8}),
        ({"a": 4, "b": 4, "c": 4, "d": 4, "e": 0}, 16, {"a": 4, "b": 3, "c": 3, "d": 3, "e": 3}),
        ({"a": 5, "b": 6, "c": 5}, 16, {"a": 5, "b": 6, "c": 5}),
        ({"a": 1, "b": 1, "c": 0}, 2, {"a": 1, "b": 1, "c": 0}),
    ],
)
def test_shares_are_equal_and_move_few_buckets(counts: dict[str, int], buckets: int, expected: dict[str, int]) -> None:
    assert shares(counts, buckets) == expected


@dataclass(slots=True)
class Table:
    """The leases of all replicas, which do not run out."""

    owners: dict[int, str] = field(default_factory=dict)
    looks: Counter[str] = field(default_factory=Counter)
    moves: int = 0


class TableLeases:
    """The leases of one replica in the table."""

    def __init__(self, table: Table, owner: str) -> None:
        self._table = table
        self.owner = owner

    def held(self) -> Held:
        return {bucket: 1 for bucket, owner in self._table.owners.items() if owner == self.owner}

    async def acquire(self, buckets: Collection[int]) -> Held:
        free = [bucket for bucket in buckets if bucket not in self._table.owners]
        self._table.owners |= dict.fromkeys(free, self.owner)
        self._table.moves += len(free)
        return dict.fromkeys(free, 1)

    async def renew(self) -> Collection[int]:
        return ()

    async def release(self, buckets: Collection[int]) -> None:
        for bucket in buckets:
            del self._table.owners[bucket]

    async def owners(self) -> dict[int, str]:
        self._table.looks[self.owner] += 1
        return dict(self._table.owners)

    async def next_end(self) -> float:
        return math.inf

    async def drop_ended(self, highest: int) -> None:
        for bucket in [bucket for bucket, owner in self._table.owners.items() if owner == "ended"]:
            assert bucket <= highest
            del self._table.owners[bucket]

    def count(self) -> int:
        return sum(bucket >= 0 for bucket in self.held())


@asynccontextmanager
async def keeping(
    leases: TableLeases, buckets: int, on_change: Callable[[], None], every: float = EVERY
) -> AsyncIterator[LeaseKeeper]:
    keeper = LeaseKeeper(leases, buckets, every=every, on_change=on_change)
    await keeper.start()
    yield keeper
    await keeper.stop()


async def test_two_replicas_end_even_and_then_nothing_moves() -> None:
    table, changes = Table(), Counter[str]()
    first, second = TableLeases(table, "first"), TableLeases(table, "second")
    async with (
        keeping(first, 9, lambda: changes.update(["first"])),
        keeping(second, 9, lambda: changes.update(["second"])),
    ):
        assert (first.count(), second.count()) == (9, 0)
        await eventually(lambda: (first.count(), second.count()) == (5, 4))
        moves = table.moves
        looks = table.looks["second"]
        await eventually(lambda: table.looks["second"] >= looks + 3)
        assert table.moves == moves
        assert changes == {"first": 2, "second": 1}
    assert not any(bucket >= 0 for bucket in table.owners)


async def test_a_replica_that_lacks_buckets_looks_more_often() -> None:
    every = 1.5
    table = Table(owners=dict.fromkeys(range(8), "others"))
    leases = TableLeases(table, "new")
    began = time.monotonic()
    async with keeping(leases, 8, lambda: None, every):
        await eventually(lambda: table.looks["new"] > 3)
        assert time.monotonic() - began < 3 * every
        for bucket in range(4):
            del table.owners[bucket]
        await eventually(lambda: leases.count() == 4)


async def test_what_replicas_that_ended_have_left_is_deleted_at_a_start() -> None:
    table = Table({-(2**21): "ended", -(2**22): "ended"})
    async with keeping(TableLeases(table, "a"), 4, lambda: None):
        assert "ended" not in table.owners.values()
