"""All working sets of this process: loaded on first use, kept current, evicted least recently used.

Searches and changes of the sets are serialised: they run in a thread of their own, or in the event loop where the work
is short. Loading runs concurrently. New rows are added before the store has them: rows that it does not have yet are
kept, and put over the rows that are read from it. Rows that arrive while a set loads are collected and added to it
then, so none is missed.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gateway.memory.record import Record
from gateway.recall.working_set import WorkingSet
from gateway.storage.protocols import MemoryTable
from gateway.storage.rows import Row, RowFormat
from gateway.storage.values import ScopeSize
from gateway.telemetry import Telemetry
from gateway.turn import Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LargeScope", "WorkingSets"]

_INLINE_ROWS = 4000  # rows that are searched in a millisecond
_LISTED_AT_ONCE = 2000  # rows that are listed in some tens of milliseconds
_PUT_AT_ONCE = 16  # rows that are added in less
_T = TypeVar("_T")
_log = logging.getLogger("gateway.recall")


class LargeScope:
    """A scope too large for RAM: candidates are fetched from the store for each query."""

    def __init__(self, scope: Scope, store: MemoryTable, overlay: "Callable[[WorkingSet], None]") -> None:
        self._scope = scope
        self._store = store
        self._overlay = overlay
        self._format = store.format_of(scope.value)

    @property
    def embedder(self) -> str:
        return self._format.embedder

    async def around(self, words: Sequence[str], vector: "NDArray[np.float32] | None") -> WorkingSet:
        """A working set of the candidates. Raises StorageError."""
        working_set = WorkingSet(self._format.dimensions, self._format.embedder)
        await asyncio.to_thread(working_set.fill, await self._store.near(self._scope, words, vector))
        self._overlay(working_set)
        return working_set


class WorkingSets:
    """The working sets by scope: at most `max_rows` of one scope are in RAM, and `max_bytes` in all."""

    def __init__(self, store: MemoryTable, telemetry: Telemetry, *, max_rows: int, max_bytes: int) -> None:
        self._store = store
        self._telemetry = telemetry
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._sets: OrderedDict[str, WorkingSet] = OrderedDict()
        self._loading: dict[str, asyncio.Task[WorkingSet]] = {}
        self._missed: dict[str, list[Row]] = {}
        self._unstored: dict[str, dict[str, Row]] = {}  # newest row by scope and id
        # versions of deletions by scope and id, until the store has them
        self._deleted: dict[str, dict[str, int]] = defaultdict(dict)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recall")
        self._run_lock = threading.Lock()
        self._resets = 0

    async def stop(self) -> None:
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_fresh(self) -> bool:
        """False while changes of the last seconds may be missing."""
        return True

    @property
    def is_usable(self) -> bool:
        """False while so many changes may be missing that deleted memories could be recalled."""
        return True

    async def get(self, scope: Scope) -> WorkingSet:
        """The working set of a scope that fits into RAM. A load continues when its first caller has given up. Raises
        StorageError."""
        working_set = self._sets.get(scope.value)
        if working_set is not None:
            self._sets.move_to_end(scope.value)
            return working_set
        task = self._loading.get(scope.value)
        if task is None:
            self._missed[scope.value] = list(self._unstored.get(scope.value, {}).values())
            task = asyncio.create_task(self._load(scope), name="load-working-set")
            task.add_done_callback(_log_failure)
            self._loading[scope.value] = task
        return await asyncio.shield(task)

    async def for_recall(self, scope: Scope) -> WorkingSet | LargeScope:
        """The working set of a scope, or a `LargeScope` if it has more than `max_rows` memories. Raises
        StorageError."""
        if scope.value not in self._sets and await self._store.is_larger(scope, self._max_rows):
            return LargeScope(scope, self._store, self._overlay(scope))
        return await self.get(scope)

    async def whole(self, scope: Scope) -> WorkingSet:
        """All memories of a scope, however many: to look up, list and delete them. Raises StorageError."""
        handle = await self.for_recall(scope)
        if isinstance(handle, WorkingSet):
            return handle
        overlay = self._overlay(scope)
        working_set, _ = await self._read_store(scope)
        overlay(working_set)
        return working_set

    def _overlay(self, scope: Scope) -> Callable[[WorkingSet], None]:
        """A function that adds the rows which the store does not have now, and removes deleted ones."""
        rows = list(self._unstored.get(scope.value, {}).values())

        def apply(working_set: WorkingSet) -> None:
            working_set.put(rows)
            working_set.remove_all(self._deleted.get(scope.value, ()))

        return apply

    async def archived(self, scope: Scope) -> WorkingSet:
        """The archived memories of a scope, searchable as if they were active. Raises StorageError."""
        return await self.build_archived(scope, dict(self._unstored.get(scope.value, {})))

    async def build_archived(self, scope: Scope, unstored: Mapping[str, Row]) -> WorkingSet:
        """The same, with these rows by id that the store does not have yet."""
        row_format = self._store.format_of(scope.value)
        loaded = await self._store.load(scope)
        working_set = WorkingSet(row_format.dimensions, row_format.embedder)

        def work() -> None:
            loaded_rows = loaded.rows(loaded.equal("status", "archived").nonzero()[0]) if len(loaded) else []
            stored = [row for row in loaded_rows if row.record.id not in unstored]
            rows = [*stored, *(row for row in unstored.values() if row.record.status == "archived")]
            working_set.put([replace(row, record=replace(row.record, status="activated")) for row in rows])

        await asyncio.to_thread(work)
        working_set.remove_all(self._deleted.get(scope.value, ()))
        return working_set

    async def mark_deleted(self, records: Iterable[Record]) -> None:
        """Remove memories from recall that are being deleted, before the store has the deletion. `records`: their
        current versions, or tombstones."""
        versions: dict[str, dict[str, int]] = defaultdict(dict)
        for record in records:
            versions[record.scope][record.id] = record.version + (record.status != "deleted")
        await self.mark_deletions(versions)

    async def mark_deletions(self, versions: Mapping[str, Mapping[str, int]]) -> None:
        """As `mark_deleted`, with the versions of the deletions by scope and id."""
        for scope, members in versions.items():
            self._deleted[scope] |= members
            working_set = self._sets.get(scope)
            if working_set is not None:
                await self.run(lambda working_set=working_set, members=members: working_set.remove_all(members))  # type: ignore[misc]  # mypy cannot infer it

    def unmark_deleted(self, records: Iterable[Record]) -> None:
        """Make memories available again whose deletion could not be written; their sets are reloaded."""
        by_scope: dict[str, list[str]] = defaultdict(list)
        for record in records:
            by_scope[record.scope].append(record.id)
        for scope, memory_ids in by_scope.items():
            self.unmark(scope, memory_ids)

    def unmark(self, scope: str, memory_ids: Iterable[str]) -> None:
        """As `unmark_deleted`, for memories of a scope."""
        for memory_id in memory_ids:
            self._forget_deletion(scope, memory_id)
        self._sets.pop(scope, None)

    def _forget_deletion(self, scope: str, memory_id: str) -> None:
        if scope in self._deleted:
            self._deleted[scope].pop(memory_id, None)
            if not self._deleted[scope]:
                del self._deleted[scope]

    def drop(self, scopes: Iterable[str]) -> None:
        """Drop the sets of these scopes; they are reloaded on next use."""
        for scope in scopes:
            self._sets.pop(scope, None)

    def has(self, scope: Scope) -> bool:
        """True if the working set of a scope is in RAM."""
        return scope.value in self._sets

    async def overlay_sizes(self, stored: Mapping[str, ScopeSize]) -> dict[str, ScopeSize]:
        """The sizes of scopes with the rows that the store does not have yet."""
        return {scope: self.overlay_size(scope, size) for scope, size in stored.items()}

    def overlay_size(self, scope: str, stored: ScopeSize) -> ScopeSize:
        """The size of a scope with the rows that the store does not have yet."""
        records = [row.record for row in self._unstored.get(scope, {}).values()]
        working_set = self._sets.get(scope)
        new = sum(record.version == 1 and record.is_active for record in records)
        count = stored.count + new if working_set is None else len(working_set)
        return ScopeSize(count, max((record.updated_at for record in records), default=stored.updated_at))

    def is_marked_deleted(self, record: Record) -> bool:
        return record.version <= self._deleted.get(record.scope, {}).get(record.id, 0)

    async def find(self, memory_ids: Iterable[str]) -> dict[str, Record]:
        """Memories of these ids, as far as their working sets are in RAM, or the store does not have them yet; of the
        latter also tombstones."""
        ids, sets = list(memory_ids), list(self._sets.values())
        unstored = {id_: rows[id_].record for rows in self._unstored.values() for id_ in ids if id_ in rows}

        def look() -> dict[str, Record]:
            return {record.id: record for working_set in sets for record in working_set.records(ids)}

        return await self.run(look) | unstored

    def snapshot(self) -> tuple[list[Row], dict[str, dict[str, int]]]:
        """The rows that the store does not have yet, and the versions of the deletions that it does not have, by scope
        and id."""
        rows = [row for rows in self._unstored.values() for row in rows.values()]
        return rows, {scope: dict(versions) for scope, versions in self._deleted.items()}

    def reset(self, rows: Iterable[Row], deletions: Mapping[str, Mapping[str, int]]) -> None:
        """Drop all sets, and start from a snapshot: they are loaded on next use, also those that are loading now."""
        self._resets += 1
        self._sets.clear()
        self._unstored.clear()
        for row in rows:
            self._unstored.setdefault(row.record.scope, {})[row.record.id] = row
        self._deleted = defaultdict(dict, {scope: dict(versions) for scope, versions in deletions.items()})
        for scope in self._missed:
            self._missed[scope] = list(self._unstored.get(scope, {}).values())

    async def beyond_cap(self, scope: str) -> list[Record]:
        """Standing preferences beyond the number that can be in force; none if the scope is not in RAM."""
        working_set = self._sets.get(scope)
        return [] if working_set is None else await self.run(working_set.beyond_cap)

    async def run(self, job: Callable[[], _T], *, is_short: bool = False) -> _T:
        """Run a job on sets, one at a time. A short job runs in the event loop if the sets are idle: the handover to
        the thread, and the contention for the interpreter lock, cost more than the job (measured: a sixth of the CPU of
        a chat)."""
        if is_short and self._run_lock.acquire(blocking=False):
            try:
                return job()
            finally:
                self._run_lock.release()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.run_here, job)

    def run_here(self, job: Callable[[], _T]) -> _T:
        """Run a job in this thread, after those that run now."""
        with self._run_lock:
            return job()

    async def records(self, working_set: WorkingSet, allows: Callable[[Record], bool] | None = None) -> list[Record]:
        """All memories of a set that a filter allows, archived ones included, oldest first. In steps: with very many
        memories this takes seconds the first time, and searches must not wait for it."""
        ids = await self.run(working_set.ids)
        records: list[Record] = []
        for begin in range(0, len(ids), _LISTED_AT_ONCE):
            step = partial(_allowed, working_set, ids[begin : begin + _LISTED_AT_ONCE], allows)
            records += await self.run(step)
        return records

    async def search(self, job: Callable[[], _T], sets: "Iterable[WorkingSet]") -> _T:
        """Run a job that scans all rows of some sets."""
        return await self.run(job, is_short=sum(map(len, sets)) <= _INLINE_ROWS)

    async def apply(self, rows: Sequence[Row]) -> None:
        """Add rows that the store has to the sets that are loaded or loading."""
        self._end_deletions(rows)
        await self._put(rows)

    async def _put(self, rows: Sequence[Row]) -> None:
        """Add rows to the sets that are loaded or loading, unless a newer version is known."""
        by_scope: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_scope[row.record.scope].append(row)
            if row.record.version > self._deleted.get(row.record.scope, {}).get(row.record.id, row.record.version):
                self._forget_deletion(row.record.scope, row.record.id)  # it was restored
        for scope, members in by_scope.items():
            if scope in self._missed:
                self._missed[scope].extend(self._newest(members))
            elif scope in self._sets:
                working_set = self._sets[scope]
                is_short = len(members) <= _PUT_AT_ONCE
                await self.run(
                    lambda working_set=working_set, members=members: working_set.put(self._newest(members)),  # type: ignore[misc]  # mypy cannot infer it
                    is_short=is_short,
                )
                if working_set.is_wasteful or len(working_set) > self._max_rows:
                    self._sets.pop(scope, None)  # the next use reloads it, or finds it too large
        self._shrink()

    def _newest(self, rows: Sequence[Row]) -> list[Row]:
        """Those of these rows that are not superseded by one that the store does not have yet."""
        unstored = [self._unstored.get(row.record.scope, {}).get(row.record.id, row) for row in rows]
        return [row for row, newest in zip(rows, unstored, strict=True) if newest.seq <= row.seq]

    async def add_unstored(self, rows: Sequence[Row]) -> None:
        """Make new rows searchable that the store does not have yet; `mark_stored` or `retract` is called later."""
        for row in rows:
            self._unstored.setdefault(row.record.scope, {})[row.record.id] = row
        await self._put(rows)

    def mark_stored(self, rows: Iterable[Row]) -> None:
        """Note that the store has rows that were added before, or newer versions of them."""
        rows = list(rows)
        self._end_deletions(rows)
        self._remove_unstored(rows)

    def _end_deletions(self, rows: Iterable[Row]) -> None:
        """Drop the marks of deletions that the store has."""
        for record in (row.record for row in rows if row.record.status == "deleted"):
            if self._deleted.get(record.scope, {}).get(record.id, record.version) <= record.version:
                self._forget_deletion(record.scope, record.id)

    def _remove_unstored(self, rows: Iterable[Row]) -> None:
        for row in rows:
            unstored = self._unstored.get(row.record.scope, {})
            if unstored.get(row.record.id) is row:
                del unstored[row.record.id]
                if not unstored:
                    del self._unstored[row.record.scope]

    def retract(self, rows: Sequence[Row]) -> None:
        """Remove rows that the store rejected, or has newer versions of; their sets are read from it again. A deletion
        that it rejected stays in force."""
        for row in rows:
            record = row.record
            if record.status == "deleted" and self._unstored.get(record.scope, {}).get(record.id) is row:
                self._deleted[record.scope].setdefault(record.id, record.version)
        self._remove_unstored(rows)
        self.drop({row.record.scope for row in rows})
        rejected = {id(row) for row in rows}
        for scope, missed in self._missed.items():
            self._missed[scope] = [row for row in missed if id(row) not in rejected]

    async def _load(self, scope: Scope) -> WorkingSet:
        try:
            resets = self._resets
            working_set, row_format = await self._read_store(scope)
            # the table was rebuilt meanwhile, or rows were missed
            while self._store.format_of(scope.value) != row_format or resets != self._resets:
                resets = self._resets
                working_set, row_format = await self._read_store(scope)
            working_set.put(self._missed[scope.value])
            working_set.remove_all(self._deleted.get(scope.value, ()))
            self._sets[scope.value] = working_set
            self._shrink()
            return working_set
        finally:
            self._missed.pop(scope.value, None)
            self._loading.pop(scope.value, None)

    async def _read_store(self, scope: Scope) -> tuple[WorkingSet, RowFormat]:
        """A new working set of all rows of a scope, and the format of its rows."""
        row_format = self._store.format_of(scope.value)
        working_set = WorkingSet(row_format.dimensions, row_format.embedder)
        await asyncio.to_thread(working_set.fill, await self._store.load(scope))
        return working_set, row_format

    def _shrink(self) -> None:
        total = sum(working_set.nbytes for working_set in self._sets.values())
        while total > self._max_bytes and len(self._sets) > 1:
            _, dropped = self._sets.popitem(last=False)
            total -= dropped.nbytes
        self._telemetry.working_sets.set(len(self._sets))
        self._telemetry.working_set_bytes.set(total)


def _allowed(working_set: WorkingSet, ids: Sequence[str], allows: Callable[[Record], bool] | None) -> list[Record]:
    records = working_set.records(ids)
    return records if allows is None else list(filter(allows, records))


def _log_failure(task: "asyncio.Task[WorkingSet]") -> None:
    """Log a failed load without a waiting caller, so that asyncio does not report it at the interpreter's end."""
    if not task.cancelled() and task.exception() is not None:
        _log.warning("working_set_load_failed", extra={"cause": type(task.exception()).__name__})
