"""Working sets of a replica: loaded from the tables and the shared log, and kept current by following the log.

Every replica reads the numbers and scopes of all new entries, and the entries of the scopes that it has in RAM. A set
is loaded from what no table has yet, read first, and then from the tables: an entry that is stored in between is in
both, and one that is appended in between comes by the log. So none is missed, without a list of tables or rows that
replicas would have to send each other.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from gateway.concurrency.listeners import Listener, notify
from gateway.concurrency.progress import SequenceProgress
from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.memory.record import Record
from gateway.recall.working_set import WorkingSet
from gateway.recall.working_sets import LargeScope, WorkingSets
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.protocols import MemoryTable
from gateway.storage.rows import Row, RowFormat
from gateway.storage.values import NO_MEMORIES, JournalEntry, ScopeSize
from gateway.telemetry import Telemetry
from gateway.turn import Scope

__all__ = ["FollowedLog", "FollowedSets", "LogFollower", "LogStep"]

_log = logging.getLogger("gateway.recall")
_MAX_FRESH: Final = 5.0  # seconds without the log after which sets are used, and the status of memory is `degraded`
_MAX_STALE: Final = 60.0  # seconds without the log after which sets are not used: deletions may have been missed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0

BuildRows = Callable[[Sequence[JournalEntry]], "asyncio.Future[list[Row]]"]


class LogStep(Protocol):
    """Some new entries, up to the number `seq`: those of the wanted scopes. `changed`: scopes of entries that change or
    delete memories, also of others. The sets of `dropped` scopes must be loaded again; if not `is_complete`, all.
    `newest_at`: the monotonic time at which there were no later entries; None if there may be some."""

    @property
    def seq(self) -> int: ...

    @property
    def entries(self) -> Sequence[JournalEntry]: ...

    @property
    def changed(self) -> Collection[str]: ...

    @property
    def dropped(self) -> Collection[str]: ...

    @property
    def is_complete(self) -> bool: ...

    @property
    def newest_at(self) -> float | None: ...


class FollowedLog(Protocol):
    """The shared log. Every method raises StorageError."""

    def follow(self, after: int, wanted: Callable[[Collection[str]], Collection[str]]) -> AsyncIterator[LogStep]:
        """New entries after a number, in order. Ends with an error if the log cannot be read."""

    async def unstored_of(self, scope: str) -> Sequence[JournalEntry]:
        """The entries of a scope that no table has yet."""

    async def unstored_sizes(self, scopes: Collection[str]) -> Mapping[str, ScopeSize]:
        """The numbers of new memories in these scopes that no table has yet."""

    async def unstored_records(self, memory_ids: Sequence[str]) -> Sequence[Record]:
        """The records of these ids that no table has yet, all versions of each."""


class RowMaker(Protocol):
    async def build(self, entries: Sequence[JournalEntry]) -> list[Row]: ...


class FollowedSets(WorkingSets):
    """The sets of a replica. `lag` returns the seconds since they had all entries of the log."""

    def __init__(
        self,
        store: MemoryTable,
        telemetry: Telemetry,
        *,
        max_rows: int,
        max_bytes: int,
        log: FollowedLog,
        builder: RowMaker,
    ) -> None:
        super().__init__(store, telemetry, max_rows=max_rows, max_bytes=max_bytes)
        self._log = log
        self._builder = builder
        self.lag: Callable[[], float] = lambda: 0.0

    @property
    def is_fresh(self) -> bool:
        return self.lag() < _MAX_FRESH

    @property
    def is_usable(self) -> bool:
        return self.lag() < _MAX_STALE

    def used(self, scopes: Collection[str]) -> Collection[str]:
        """Those of these scopes whose new entries are needed here."""
        return [scope for scope in scopes if scope in self._sets or scope in self._loading or scope in self._deleted]

    def reload(self, scopes: Collection[str]) -> None:
        """Drop the sets of these scopes; those that are loading are loaded once more."""
        if scopes:
            self.drop(scopes)
            self._resets += 1

    async def for_recall(self, scope: Scope) -> WorkingSet | LargeScope:
        """As `WorkingSets.for_recall`. Raises StorageError also if the log was not followed for too long."""
        if not self.is_usable:
            raise StorageError("journal", "changes of memories may have been missed", is_outage=True)
        if scope.value not in self._sets and await self._store.is_larger(scope, self._max_rows):
            rows = await self._unstored_rows(scope)
            return LargeScope(scope, self._store, lambda working_set: self._put_over(working_set, scope, rows))
        return await self.get(scope)

    async def whole(self, scope: Scope) -> WorkingSet:
        handle = await self.for_recall(scope)
        return handle if isinstance(handle, WorkingSet) else (await self._read_store(scope))[0]

    async def archived(self, scope: Scope) -> WorkingSet:
        rows = {row.record.id: row for row in await self._unstored_rows(scope)}
        return await self.build_archived(scope, rows)

    async def overlay_sizes(self, stored: Mapping[str, ScopeSize]) -> dict[str, ScopeSize]:
        try:
            unstored = await self._log.unstored_sizes(list(stored))
        except StorageError:
            unstored = {}
        sizes = {}
        for scope, size in stored.items():
            new, working_set = unstored.get(scope, NO_MEMORIES), self._sets.get(scope)
            count = size.count + new.count if working_set is None else len(working_set)
            sizes[scope] = ScopeSize(count, max(size.updated_at, new.updated_at))
        return sizes

    async def find(self, memory_ids: Iterable[str]) -> dict[str, Record]:
        ids = list(memory_ids)
        records = await super().find(ids)
        for record in await self._log.unstored_records([id_ for id_ in ids if id_ not in records]):
            if record.id not in records or record.version >= records[record.id].version:
                records[record.id] = record
        return records

    async def _read_store(self, scope: Scope) -> tuple[WorkingSet, RowFormat]:
        rows = await self._unstored_rows(scope)  # before the tables are read
        working_set, row_format = await super()._read_store(scope)
        self._put_over(working_set, scope, rows)
        return working_set, row_format

    def _put_over(self, working_set: WorkingSet, scope: Scope, rows: Sequence[Row]) -> None:
        working_set.put(rows)
        working_set.remove_all(self._deleted.get(scope.value, ()))

    async def _unstored_rows(self, scope: Scope) -> list[Row]:
        entries = await self._log.unstored_of(scope.value)
        return await self._builder.build(entries) if entries else []


class LogFollower:
    """Follows the log and applies it to the sets. `on_change` are called with scopes whose memories were changed by any
    replica."""

    def __init__(
        self,
        log: FollowedLog,
        sets: FollowedSets,
        builder: RowMaker,
        on_change: Collection[Listener[Collection[str]]],
    ) -> None:
        self._log = log
        self._sets = sets
        self._builder = builder
        self._on_change = on_change
        self._progress = SequenceProgress()
        self._newest_at = time.monotonic()
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._worker = RepeatingWorker("log-follower", self._work, _log, "log_follower_fault", pauses=self._pauses)
        sets.lag = lambda: self.lag

    @property
    def lag(self) -> float:
        """Seconds since the sets had all entries of the log."""
        return time.monotonic() - self._newest_at

    async def start(self, seq: int) -> None:
        """Follow the log from a number on; nothing was loaded before."""
        self._progress.advance(seq)
        self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    async def reached(self, seq: int, timeout: float) -> bool:
        """Wait until this replica has all entries up to a number. False after the timeout (seconds)."""
        return await self._progress.reached(seq, timeout)

    async def _work(self) -> None:
        try:
            async for step in self._log.follow(self._progress.value, self._sets.used):
                await self._apply(step)
                if step.newest_at is not None:  # else it still catches up, perhaps with deletions
                    self._newest_at = step.newest_at
                self._pauses.reset()
        except StorageError as error:
            seconds = self._pauses.next()
            _log.warning(
                "log_not_followed", extra={"cause": failure_name(error), "detail": str(error), "seconds": seconds}
            )
            await asyncio.sleep(seconds)

    async def _apply(self, step: LogStep) -> None:
        if not step.is_complete:
            self._sets.reset((), {})
        self._sets.reload(step.dropped)
        if step.entries:
            await self._sets.apply(await self._builder.build(step.entries))
        if step.changed or not step.is_complete:
            await notify(self._on_change, step.changed)
        self._progress.advance(step.seq)
