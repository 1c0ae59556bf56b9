"""Moves a memory from a data folder to a cluster, or back, while no gateway uses it.

The target is marked as incomplete until the source is marked as moved: whenever a move is interrupted, gateways start
on one of the two at most, and running it again completes it. Everything that was copied is counted at both ends.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, Protocol

from gateway.storage.errors import StorageError
from gateway.storage.move.ends import MovedMemory, MoveEnd
from gateway.storage.move_mark import MoveMark, MoveState, describe_mark
from gateway.storage.moved_tables import MOVED_TABLES, MovedTable

__all__ = ["Move", "MoveProgress", "MoveRefused", "MovedCount"]

CopyTables = Callable[[Collection[str], Callable[[int], None], Callable[[int], None]], Awaitable[None]]
"""Copies the files of tables with these names; it calls the second argument with the bytes of all files, and then the
third one with those of each."""
_MEMORIES: Final = "memories"
_NEARLY_MOVED: Final = "the last step may be missing: run the command again, which takes it, or says that it is not"


class MoveRefused(Exception):
    """A memory cannot be moved; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class MovedCount:
    """How many rows a part has. `part`: memories of a bucket, or a table of SQL; `moved` is None in a dry run."""

    part: str
    name: str
    rows: int
    moved: int | None = None


class MoveProgress(Protocol):
    """Where the progress is shown."""

    def begin(self, step: str, total: int | None) -> None:
        """A step of so many units of work begins; None: how many is not known."""

    def advance(self, amount: int) -> None: ...


class Move:
    """A move. `copy_tables` copies the files of LanceDB's tables; `check_tenants` raises MoveRefused if the target has
    no use for the memories of a tenant. Its methods raise MoveRefused, StorageError, FolderRefused, ConfigError or
    OSError."""

    def __init__(
        self,
        source: MoveEnd,
        target: MoveEnd,
        copy_tables: CopyTables,
        progress: MoveProgress,
        check_tenants: Callable[[Collection[str]], None] = lambda tenants: None,
    ) -> None:
        self._source = source
        self._target = target
        self._copy_tables = copy_tables
        self._progress = progress
        self._check_tenants = check_tenants
        self._outcome = "nothing was moved"

    @property
    def outcome(self) -> str:
        """What was reached if the move has not ended, and what to do."""
        return self._outcome

    async def plan(self) -> list[MovedCount]:
        """Check both ends, and count what would be moved. The target is left as it is."""
        await self._lock()
        await self._target.require_empty()
        return await self._count_source(await self._source.load())

    async def run(self) -> list[MovedCount]:
        """Move the memory. Returns what was moved."""
        earlier = await self._lock()
        if earlier is not None:
            self._outcome = _NEARLY_MOVED
            await self._target.unmark()
            return [MovedCount(part, "", rows, rows) for part, rows in earlier.counts.items()]
        await self._target.require_empty()
        self._progress.begin("checking the memory", None)
        memory = await self._source.load()
        await self._check_tenants_of_source()
        mark = MoveMark(id=secrets.token_hex(8), state=MoveState.ARRIVING, place=self._source.place, at=time.time())
        self._outcome = f"the memory is still at {self._source.place}: run the command again, which completes the move"
        await self._target.begin(mark, memory)
        counts = [*await self._move_tables(memory), *await self._move_rows()]
        await self._conclude(mark, counts)
        return counts

    async def _lock(self) -> MoveMark | None:
        """Lock the source. Returns its mark if a move to the target lacks its last step only."""
        await self._source.lock()
        moved, arriving = await self._source.inspect(), await self._target.inspect()
        if arriving is not None and (arriving.state is MoveState.MOVED or arriving.place != self._source.place):
            raise MoveRefused(f"{self._target.place}: {describe_mark(arriving, self._target.mark_place)}")
        if moved is None:
            return None
        if arriving is not None and moved.id == arriving.id and arriving.state is MoveState.ARRIVED:
            return moved
        raise MoveRefused(f"{self._source.place}: {describe_mark(moved, self._source.mark_place)}")

    async def _move_tables(self, memory: MovedMemory) -> list[MovedCount]:
        await self._copy_tables(
            memory.names, lambda total: self._progress.begin("copying tables", total), self._progress.advance
        )
        self._progress.begin("checking tables", None)
        arrived = await self._target.describe(memory)
        counts = _count_memories(memory, arrived)
        _require_equal(counts)
        await self._target.enter(arrived)
        return counts

    async def _move_rows(self) -> list[MovedCount]:
        source, target = self._source.rows, self._target.rows
        identities = await self._source.identities()
        if identities is not None:
            await self._target.put_identities(identities)
        totals = {table.name: await source.count(table) for table in MOVED_TABLES}
        self._progress.begin("copying rows", sum(totals.values()))
        counts = []
        for table in MOVED_TABLES:
            await self._copy_rows(table)
            moved = await target.count(table)
            counts.append(MovedCount(table.part, table.name, totals[table.name], moved))
        await target.continue_after(await source.newest_seq())
        _require_equal(counts)
        return counts

    async def _copy_rows(self, table: MovedTable) -> None:
        async for rows in self._source.rows.read(table):
            await self._target.rows.write(table, rows)
            self._progress.advance(len(rows))

    async def _conclude(self, mark: MoveMark, counts: Collection[MovedCount]) -> None:
        """Let the target be the memory from now on."""
        sums: dict[str, int] = {}
        for count in counts:
            sums[count.part] = sums.get(count.part, 0) + count.rows
        await self._target.mark(replace(mark, state=MoveState.ARRIVED, counts=sums))
        await self._source.require_unchanged()
        self._outcome = _NEARLY_MOVED
        moved = replace(mark, state=MoveState.MOVED, place=self._target.place, at=time.time(), counts=sums)
        await self._source.mark(moved)
        await self._target.unmark()

    async def _check_tenants_of_source(self) -> None:
        tenants: set[str] = set()
        async for rows in self._source.rows.read(MOVED_TABLES[0]):
            tenants.update(row[1] for row in rows)
        self._check_tenants(tenants)

    async def _count_source(self, memory: MovedMemory) -> list[MovedCount]:
        await self._check_tenants_of_source()
        rows = self._source.rows
        tables = [MovedCount(table.part, table.name, await rows.count(table)) for table in MOVED_TABLES]
        return [*(MovedCount(_MEMORIES, f"bucket {n}", rows) for n, rows in memory.rows_by_bucket().items()), *tables]


def _count_memories(memory: MovedMemory, arrived: MovedMemory) -> list[MovedCount]:
    moved = arrived.rows_by_bucket()
    return [MovedCount(_MEMORIES, f"bucket {n}", rows, moved.get(n, 0)) for n, rows in memory.rows_by_bucket().items()]


def _require_equal(counts: Collection[MovedCount]) -> None:
    """Raise StorageError if something is missing at the target."""
    for count in counts:
        if count.rows != count.moved:
            raise StorageError(
                "store",
                f"{count.moved} of {count.rows} rows have arrived ({count.part} {count.name})",
            )
