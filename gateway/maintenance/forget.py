"""Deletion of memories: at once in recall, then, on request, on the disk too.

A deletion is a new version of a memory without its text (a tombstone); the old text leaves the tables when they are
next rewritten. `purge` does that now: it rewrites the buckets of deleted memories and removes their old files, scrubs
the journal and the registry, and removes data that was set aside as damaged.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import MemoryUnavailable
from gateway.maintenance.selection import MemorySelection, scopes_of, selected_memories
from gateway.memory.record import Record
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Blocks, MemoryTable, RecordLog, Registry
from gateway.storage.values import JournalEntry
from gateway.turn import Scope

__all__ = ["Forgetter", "Forgotten"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The number of deleted memories, and whether they were purged from the disk as well."""

    deleted: int
    purged: bool


class Forgetter:
    """Deletes selected memories, and purges them from the disk.

    `delete` deletes records and those derived from them; `purge` erases deleted rows of scopes, and `discard` drops
    entries of the journal; `settled` waits until all writes of some scopes (None: of all) are stored and on the disk;
    `drop` drops cached working sets; `remove_damaged` deletes data that was set aside as damaged, in a thread.
    """

    def __init__(
        self,
        journal: RecordLog,
        store: MemoryTable,
        registry: Registry,
        *,
        delete: Callable[[Iterable[Record]], Awaitable[int]],
        purge: Callable[[Collection[str]], Awaitable[None]],
        discard: Callable[[Sequence[JournalEntry]], Awaitable[None]],
        settled: Callable[[Collection[str] | None], Awaitable[None]],
        drop: Callable[[Iterable[str]], None],
        blocks: Blocks,
        remove_damaged: Callable[[], None],
    ) -> None:
        self._blocks = blocks
        self._remove_damaged = remove_damaged
        self._journal = journal
        self._store = store
        self._registry = registry
        self._delete = delete
        self._purge_store = purge
        self._discard = discard
        self._wait_settled = settled
        self._drop = drop
        self._purging = asyncio.Lock()
        # called with scopes and one of their sessions (None: all of them). They raise MemoryUnavailable
        self.on_scopes: list[Callable[[Sequence[str], str | None], Awaitable[None]]] = []
        # called with a tenant and a user (None: every tenant, every user). They raise MemoryUnavailable
        self.on_owner: list[Callable[[str | None, str | None], Awaitable[None]]] = []
        # called with a tenant, a user and a session (None: any) before and after memories are deleted
        self.on_forget: list[Callable[[str | None, str | None, str | None], Awaitable[None] | None]] = []
        self._tasks: set[asyncio.Task[Forgotten]] = set()

    async def stop(self) -> None:
        """Cancel running requests; memories deleted so far stay deleted."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    async def forget(self, selection: MemorySelection, *, purge: bool) -> Forgotten:
        """Delete the selected memories; goes on if the caller is cancelled. Raises MemoryUnavailable; memories deleted
        until then stay deleted."""
        task = asyncio.create_task(self._forget(selection, purge=purge), name="forget")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _forget(self, selection: MemorySelection, *, purge: bool) -> Forgotten:
        await self._notify(selection)
        try:
            scopes = {scope.value: scope for scope in await scopes_of(selection, self._registry)}
            newest, _ = await self._journal.position()
            await self._settle(selection, scopes)
            deleted = await self._discard_pending(selection, scopes, newest)
            owned = [scope.value for scope in scopes.values() if selection.user in (None, scope.owner)]
            for listener in self.on_scopes if not selection.ids else ():
                await listener(owned, selection.session)
            async for _, records in selected_memories(selection, self._store, self._registry):
                deleted += await self._delete(records)
            if purge:
                async with self._purging:
                    await self._purge(selection)
        except (StorageError, OSError) as error:
            cause = error.strerror if isinstance(error, OSError) else error  # without the path of a file
            raise MemoryUnavailable(f"not all could be forgotten now ({cause}); try again") from error
        finally:
            await self._notify(selection)  # of turns that ended meanwhile
        return Forgotten(deleted, purge)

    async def _settle(self, selection: MemorySelection, scopes: Collection[str]) -> None:
        """Wait for earlier writes. One user's do not wait for those of others, which may not be stored for long."""
        await self._wait_settled(None if selection.user is None else scopes)

    async def _notify(self, selection: MemorySelection) -> None:
        for listener in self.on_forget if not selection.ids else ():
            result = listener(selection.tenant, selection.user, selection.session)
            if result is not None:
                await result

    async def _discard_pending(self, selection: MemorySelection, scopes: Mapping[str, Scope], newest: int) -> int:
        """Discard journal entries that wait for a retry or are dead letters. Returns the number of their memories."""
        pending = [
            entry
            for entry in await self._journal.unstored(newest)
            if entry.record.status != "deleted"
            and entry.record.scope in scopes
            and selection.takes(scopes[entry.record.scope], entry.record)
        ]
        await self._discard(pending)
        return len({entry.record.id for entry in pending})

    async def _purge(self, selection: MemorySelection) -> None:
        newest, _ = await self._journal.position()
        selected = await scopes_of(selection, self._registry)
        scopes = {scope.value for scope in selected}
        await self._settle(selection, scopes)
        if any(entry.record.scope in scopes for entry in await self._journal.unstored(newest)):
            raise MemoryUnavailable("not every deletion is stored yet; try again")
        await self._purge_store(scopes)
        await self._journal.purge(scopes)
        await self._blocks.purge(scopes)
        self._drop(scopes)
        if selection.is_whole:
            await self._forget_names(selection, selected)
        await asyncio.to_thread(self._remove_damaged)

    async def _forget_names(self, selection: MemorySelection, scopes: Sequence[Scope]) -> None:
        """Remove the names of purged owners from the registry; scopes that have new messages are added again."""
        if selection.user is None:
            await self._registry.forget_all(selection.tenant)
        else:
            tenants = {scope.tenant for scope in scopes} if selection.tenant is None else {selection.tenant}
            for tenant in tenants:
                await self._registry.forget_owner(tenant, selection.user)
        for listener in self.on_owner:
            await listener(selection.tenant, selection.user)
        await self._settle(selection, [scope.value for scope in scopes])
        remaining = await self._store.with_rows(scope.value for scope in scopes)
        await self._registry.add_scopes([scope for scope in scopes if scope.value in remaining])
