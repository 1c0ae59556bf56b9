"""The numbers of memories in scopes. What the store has counted stays in RAM until one of the scope's rows changes."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from gateway.storage.errors import StorageError
from gateway.storage.protocols import MemoryTable
from gateway.storage.rows import Row
from gateway.storage.values import NO_MEMORIES, ScopeSize
from gateway.turn import Scope

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets

__all__ = ["ScopeSizes"]

_MAX_CACHED: Final = 20_000  # scopes
_MAX_AT_ONCE: Final = 1000  # scopes that the store counts in one step


class ScopeSizes:
    """Counts the memories of scopes. `ready` is called when the store is loaded, `note` with the rows that it gets.

    `searchable` waits until all earlier writes can be found. `is_shared`: other processes store rows, too, so that
    counts are not kept.
    """

    def __init__(
        self, store: MemoryTable, searchable: Callable[[float], Awaitable[bool]], *, is_shared: bool = False
    ) -> None:
        self._store = store
        self._searchable = searchable
        self._is_shared = is_shared
        self._sets: WorkingSets | None = None
        self._stored: OrderedDict[str, ScopeSize] = OrderedDict()
        self._changed: set[str] = set()  # scopes that got rows during the current measurement
        self._measuring: asyncio.Task[None] | None = None

    def ready(self, sets: "WorkingSets") -> None:
        self._sets = sets

    def note(self, rows: Iterable[Row]) -> None:
        """Count the scopes of these rows again."""
        for row in rows:
            self._stored.pop(row.record.scope, None)
            self._changed.add(row.record.scope)

    async def stop(self) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait([self._measuring], timeout=5)

    async def within(self, scopes: Collection[Scope], timeout: float) -> dict[str, ScopeSize]:
        """The sizes of scopes by their values; those that cannot be counted in time are left out. The count goes on, so
        that a later call has it."""
        if self._sets is None:
            return {}
        values = [scope.value for scope in scopes]
        if self._is_shared:
            for value in values:
                self._stored.pop(value, None)
        try:
            async with asyncio.timeout(timeout):
                await self._searchable(timeout)
                while missing := [value for value in values if value not in self._stored]:
                    await self._measure(missing)
        except (TimeoutError, StorageError):
            pass
        return await self._sets.overlay_sizes({value: self._stored[value] for value in values if value in self._stored})

    async def count(self, scopes: Collection[Scope], timeout: float) -> int | None:
        """The number of valid memories in scopes; None if they cannot be counted in time."""
        sizes = await self.within(scopes, timeout)
        return sum(size.count for size in sizes.values()) if len(sizes) == len(scopes) else None

    async def _measure(self, values: Sequence[str]) -> None:
        """Wait for the measurement that runs, or for one of these scopes; it goes on if the caller is cancelled. Raises
        StorageError."""
        task = self._measuring
        if task is None or task.done():
            task = self._measuring = asyncio.create_task(self._count_stored(values), name="scope-sizes")
        await asyncio.wait([task])
        await task

    async def _count_stored(self, values: Sequence[str]) -> None:
        for begin in range(0, len(values), _MAX_AT_ONCE):
            batch = values[begin : begin + _MAX_AT_ONCE]
            self._changed.clear()
            sizes = await self._store.sizes(batch)
            counted = {value: sizes.get(value, NO_MEMORIES) for value in batch if value not in self._changed}
            self._stored.update(counted)
            while len(self._stored) > _MAX_CACHED:
                self._stored.popitem(last=False)
