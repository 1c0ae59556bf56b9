"""The steps of a move, between ends that fail."""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field

import pytest

from gateway.maintenance.move import Move
from gateway.storage.errors import StorageError
from gateway.storage.move.ends import MovedMemory
from gateway.storage.move_mark import MoveMark, MoveState
from gateway.storage.moved_tables import MovedTable, RowBatch

MEMORY = MovedMemory(buckets=1, embedder="local", dimensions=8, has_plain_ids=False, tables={})


class NoRows:
    """Tables without rows."""

    async def count(self, table: MovedTable) -> int:
        return 0

    async def read(self, table: MovedTable) -> AsyncIterator[RowBatch]:
        return
        yield

    async def write(self, table: MovedTable, rows: RowBatch) -> None: ...

    async def newest_seq(self) -> int:
        return 0

    async def continue_after(self, seq: int) -> None: ...


@dataclass
class FailingEnd:
    """An end with an empty memory, whose method `failing` raises an error. `marks`: all that it has had."""

    place: str
    failing: str = ""
    marks: list[MoveMark | None] = field(default_factory=list)
    mark_place: str = "mark"
    rows: NoRows = field(default_factory=NoRows)

    def _pass(self, method: str) -> None:
        if method == self.failing:
            raise StorageError("store", "the disk is full")

    async def lock(self) -> None:
        self._pass("lock")

    async def inspect(self) -> MoveMark | None:
        return self.marks[-1] if self.marks else None

    async def load(self) -> MovedMemory:
        self._pass("load")
        return MEMORY

    async def require_unchanged(self) -> None:
        self._pass("require_unchanged")

    async def require_empty(self) -> None:
        self._pass("require_empty")

    async def begin(self, mark: MoveMark, memory: MovedMemory) -> None:
        await self.mark(mark)
        self._pass("begin")

    async def describe(self, memory: MovedMemory) -> MovedMemory:
        return memory

    async def enter(self, memory: MovedMemory) -> None:
        self._pass("enter")

    async def mark(self, mark: MoveMark) -> None:
        self.marks.append(mark)

    async def unmark(self) -> None:
        self._pass("unmark")
        self.marks.append(None)

    async def identities(self) -> bytes | None:
        return None

    async def put_identities(self, content: bytes) -> None: ...

    async def close(self) -> None: ...


class NoProgress:
    """Shows nothing."""

    def begin(self, step: str, total: int | None) -> None: ...

    def advance(self, amount: int) -> None: ...


async def copy(names: Collection[str], on_total: Callable[[int], None], on_copy: Callable[[int], None]) -> None:
    """Copies nothing."""


def move_between(source: FailingEnd, target: FailingEnd) -> Move:
    return Move(source, target, copy, NoProgress())


@pytest.mark.parametrize(
    ("source", "target", "outcome"),
    [
        ("lock", "", "nothing was moved"),
        ("load", "", "nothing was moved"),
        ("", "require_empty", "nothing was moved"),
        ("", "begin", "the memory is still at there: run the command again, which completes the move"),
        ("", "enter", "the memory is still at there: run the command again, which completes the move"),
        ("require_unchanged", "", "the memory is still at there: run the command again, which completes the move"),
    ],
)
async def test_a_move_that_fails_says_where_the_memory_is(source: str, target: str, outcome: str) -> None:
    origin, end = FailingEnd("there", source), FailingEnd("here", target)
    move = move_between(origin, end)
    with pytest.raises(StorageError):
        await move.run()
    assert move.outcome == outcome
    assert origin.marks == []


async def test_the_last_step_is_taken_by_the_next_move() -> None:
    source, target = FailingEnd("there"), FailingEnd("here", "unmark")
    move = move_between(source, target)
    with pytest.raises(StorageError):
        await move.run()
    assert "the last step may be missing: run the command again" in move.outcome
    states = [end.marks[-1].state for end in (source, target) if end.marks[-1] is not None]
    assert states == [MoveState.MOVED, MoveState.ARRIVED]
    target.failing = ""
    await move_between(source, target).run()
    assert target.marks[-1] is None
