"""All working sets of this process: loaded on first use, kept current, dropped least recently used.

One at a time searches and changes the sets: a thread of their own, or the loop itself where the work is short.
Loading happens beside that. What is written while a set loads is kept and added when it is there, so no row is missed.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gateway.recall.working_set import WorkingSet
from gateway.store.catalog import Made
from gateway.store.loaded import Row
from gateway.store.memories import MemoryStore
from gateway.telemetry import Telemetry
from gateway.turn import Record, Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LargeScope", "WorkingSets"]

_AT_ONCE = 4000  # rows that are searched in a millisecond
_PUT_AT_ONCE = 16  # rows that are added in less
_T = TypeVar("_T")
_log = logging.getLogger("gateway.recall")


class LargeScope:
    """A scope that is not held: what may belong to a query is fetched for each query."""

    def __init__(self, scope: Scope, store: MemoryStore, struck: Callable[[], Iterable[str]]) -> None:
        self._scope = scope
        self._store = store
        self._struck = struck
        self._made = store.made_of(scope.value)

    @property
    def embedder(self) -> str:
        return self._made.embedder

    async def around(self, words: Sequence[str], vector: "NDArray[np.float32] | None") -> WorkingSet:
        """A working set of the candidates. Raises StoreFailed."""
        found = WorkingSet(self._made.dimensions, self._made.embedder)
        await asyncio.to_thread(found.fill, await self._store.near(self._scope, words, vector))
        found.remove_all(self._struck())
        return found


class WorkingSets:
    """`max_rows` of one scope are held, `max_bytes` in all."""

    def __init__(self, store: MemoryStore, telemetry: Telemetry, *, max_rows: int, max_bytes: int) -> None:
        self._store = store
        self._telemetry = telemetry
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._sets: OrderedDict[str, WorkingSet] = OrderedDict()
        self._loading: dict[str, asyncio.Task[WorkingSet]] = {}
        self._missed: dict[str, list[Row]] = {}
        self._struck: dict[str, set[str]] = defaultdict(set)  # ids by scope: deleted, and in the store perhaps still
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recall")
        self._taken = threading.Lock()

    async def stop(self) -> None:
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def get(self, scope: Scope) -> WorkingSet:
        """The working set of a scope that can be held. A load goes on when its first caller has given up. Raises
        StoreFailed."""
        found = self._sets.get(scope.value)
        if found is not None:
            self._sets.move_to_end(scope.value)
            return found
        task = self._loading.get(scope.value)
        if task is None:
            self._missed[scope.value] = []
            task = asyncio.create_task(self._load(scope), name="load-working-set")
            task.add_done_callback(_retrieve)
            self._loading[scope.value] = task
        return await asyncio.shield(task)

    async def for_recall(self, scope: Scope) -> WorkingSet | LargeScope:
        """The working set of a scope, or, where it has more memories than are held, its large form. Raises
        StoreFailed."""
        if scope.value not in self._sets and await self._store.is_larger(scope, self._max_rows):
            return LargeScope(scope, self._store, lambda: self._struck.get(scope.value, ()))
        return await self.get(scope)

    async def whole(self, scope: Scope) -> WorkingSet:
        """All memories of a scope, however many: for those who look up, list and delete. Raises StoreFailed."""
        held = await self.for_recall(scope)
        if isinstance(held, WorkingSet):
            return held
        found, _ = await self._loaded(scope)
        found.remove_all(self._struck.get(scope.value, ()))
        return found

    async def archived(self, scope: Scope) -> WorkingSet:
        """What was archived of a scope, to be searched as if it were not. Raises StoreFailed."""
        made = self._store.made_of(scope.value)
        loaded = await self._store.load(scope)
        found = WorkingSet(made.dimensions, made.embedder)

        def work() -> None:
            rows = [row for row in loaded.rows() if row.record.status == "archived"]
            found.put([replace(row, record=replace(row.record, status="activated")) for row in rows])

        await asyncio.to_thread(work)
        found.remove_all(self._struck.get(scope.value, ()))
        return found

    async def strike(self, records: Iterable[Record]) -> None:
        """What was deleted is gone from recall at once, before the store knows."""
        ids: dict[str, set[str]] = defaultdict(set)
        for record in records:
            ids[record.scope].add(record.id)
        for scope, members in ids.items():
            self._struck[scope] |= members
            working_set = self._sets.get(scope)
            if working_set is not None:
                await self.run(lambda working_set=working_set, members=members: working_set.remove_all(members))  # type: ignore[misc]  # mypy cannot infer it

    def drop(self, scopes: Iterable[str]) -> None:
        """Load these anew when they are next asked for."""
        for scope in scopes:
            self._sets.pop(scope, None)

    def has(self, scope: Scope) -> bool:
        """True if the working set of a scope is in RAM."""
        return scope.value in self._sets

    def is_struck(self, record: Record) -> bool:
        return record.id in self._struck.get(record.scope, ())

    async def find(self, memory_ids: Iterable[str]) -> dict[str, Record]:
        """Memories of these ids, as far as their working sets are here."""
        wanted, sets = list(memory_ids), list(self._sets.values())

        def look() -> dict[str, Record]:
            found = ((id_, working_set.find(id_)) for id_ in wanted for working_set in sets)
            return {id_: record for id_, record in found if record is not None}

        return await self.run(look)

    async def beyond_cap(self, scope: str) -> list[Record]:
        """Standing preferences that are too many to be in force; none of a scope that is not in RAM."""
        working_set = self._sets.get(scope)
        return [] if working_set is None else await self.run(working_set.beyond_cap)

    async def run(self, job: Callable[[], _T], *, is_short: bool = False) -> _T:
        """Do something with sets. Short work is done in the loop, if nobody is at the sets: handing it to the thread,
        and the two then waiting for each other's interpreter lock, costs more than the work (measured: a sixth of the
        CPU of a chat)."""
        if is_short and self._taken.acquire(blocking=False):
            try:
                return job()
            finally:
                self._taken.release()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_turn, job)

    async def search(self, job: Callable[[], _T], sets: "Iterable[WorkingSet]") -> _T:
        """Look something up in all rows of some sets."""
        return await self.run(job, is_short=sum(map(len, sets)) <= _AT_ONCE)

    def _in_turn(self, job: Callable[[], _T]) -> _T:
        with self._taken:
            return job()

    async def apply(self, rows: Sequence[Row]) -> None:
        """Rows that the store has now: into the sets that are there or on their way."""
        by_scope: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_scope[row.record.scope].append(row)
        for scope, members in by_scope.items():
            self._struck[scope] -= {row.record.id for row in members if row.record.status == "deleted"}
            if not self._struck[scope]:
                del self._struck[scope]
            if scope in self._missed:
                self._missed[scope].extend(members)
            elif scope in self._sets:
                working_set = self._sets[scope]
                is_short = len(members) <= _PUT_AT_ONCE
                await self.run(
                    lambda working_set=working_set, members=members: working_set.put(members),  # type: ignore[misc]  # mypy cannot infer it
                    is_short=is_short,
                )
                if working_set.is_wasteful or len(working_set) > self._max_rows:
                    self._sets.pop(scope, None)  # the next one who asks loads it anew, or finds it too large
        self._shrink()

    async def _load(self, scope: Scope) -> WorkingSet:
        try:
            working_set, made = await self._loaded(scope)
            while self._store.made_of(scope.value) != made:  # made anew meanwhile
                working_set, made = await self._loaded(scope)
            working_set.put(self._missed[scope.value])
            working_set.remove_all(self._struck.get(scope.value, ()))
            self._sets[scope.value] = working_set
            self._shrink()
            return working_set
        finally:
            self._missed.pop(scope.value, None)
            self._loading.pop(scope.value, None)

    async def _loaded(self, scope: Scope) -> tuple[WorkingSet, Made]:
        made = self._store.made_of(scope.value)
        working_set = WorkingSet(made.dimensions, made.embedder)
        await asyncio.to_thread(working_set.fill, await self._store.load(scope))
        return working_set, made

    def _shrink(self) -> None:
        total = sum(working_set.nbytes for working_set in self._sets.values())
        while total > self._max_bytes and len(self._sets) > 1:
            _, dropped = self._sets.popitem(last=False)
            total -= dropped.nbytes
        self._telemetry.working_sets.set(len(self._sets))
        self._telemetry.working_set_bytes.set(total)


def _retrieve(task: "asyncio.Task[WorkingSet]") -> None:
    """A failed load that nobody waits for any more is logged, not raised at the interpreter's end."""
    if not task.cancelled() and task.exception() is not None:
        _log.warning("working_set_not_loaded", extra={"cause": type(task.exception()).__name__})
