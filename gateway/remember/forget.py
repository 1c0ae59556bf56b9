"""Forgetting: at once in recall, then, where that is asked for, on the disk too.

A deletion is a new version of a memory without its text; the old text leaves the tables when they are next written
anew. `purge` does that now: the buckets of what was deleted are rewritten, their old files taken away, the journal and
the registry scrubbed, and what was set aside as damaged thrown away.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import MemoryUnavailable
from gateway.remember.selection import Selection, chosen, scopes_of
from gateway.store.blocks import Blocks, BlocksFailed
from gateway.store.conditions import StoreFailed
from gateway.store.journal import Journal, JournalFailed
from gateway.store.memories import MemoryStore
from gateway.store.registry import Registry, RegistryFailed
from gateway.turn import Record, Scope

__all__ = ["Forgetter", "Forgotten"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many memories are gone, and whether from the disk as well."""

    deleted: int
    purged: bool


class Forgetter:
    """`delete` deletes records as everywhere; `settled` waits until all that was written is stored and on the disk;
    `drop` lets working sets go."""

    def __init__(
        self,
        journal: Journal,
        store: MemoryStore,
        registry: Registry,
        *,
        folder: Path,
        delete: Callable[[Iterable[Record]], Awaitable[int]],
        settled: Callable[[], Awaitable[None]],
        drop: Callable[[Iterable[str]], None],
        blocks: Blocks,
    ) -> None:
        self._blocks = blocks
        self._folder = folder
        self._journal = journal
        self._store = store
        self._registry = registry
        self._delete = delete
        self._settled = settled
        self._drop = drop
        self._purging = asyncio.Lock()
        # others that know scopes' conversations, all or one of them. They raise MemoryUnavailable
        self.on_scopes: list[Callable[[Sequence[str], str | None], Awaitable[None]]] = []
        # others that know a tenant's user by name; None: every tenant, every user. They raise MemoryUnavailable
        self.on_owner: list[Callable[[str | None, str | None], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[Forgotten]] = set()

    async def stop(self) -> None:
        """Break off what is being forgotten; what was deleted stays deleted."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    async def forget(self, selection: Selection, *, purge: bool) -> Forgotten:
        """Delete what is selected. It goes on when whoever asked has left. Raises MemoryUnavailable; what was deleted
        until then stays deleted."""
        task = asyncio.create_task(self._forget(selection, purge=purge), name="forget")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _forget(self, selection: Selection, *, purge: bool) -> Forgotten:
        try:
            known = {scope.value: scope for scope in await scopes_of(selection, self._registry)}
            newest, _ = await self._journal.position()
            await self._settled()
            deleted = await self._give_up(selection, known, newest)
            own = [one.value for one in known.values() if selection.user in (None, one.owner)]
            for listener in self.on_scopes if not selection.ids else ():
                await listener(own, selection.session)
            async for _, records in chosen(selection, self._store, self._registry):
                deleted += await self._delete(records)
            if purge:
                async with self._purging:
                    await self._purge(selection)
        except (StoreFailed, JournalFailed, RegistryFailed, BlocksFailed, OSError) as error:
            raise MemoryUnavailable(f"not all could be forgotten now ({error}); try again") from error
        return Forgotten(deleted, purge)

    async def _give_up(self, selection: Selection, known: Mapping[str, Scope], newest: int) -> int:
        """What waits for another try, or went aside, must not come back. Returns how many memories that were."""
        doomed = [
            entry
            for entry in await self._journal.unstored(newest)
            if entry.record.status != "deleted"
            and entry.record.scope in known
            and selection.takes(known[entry.record.scope], entry.record)
        ]
        await self._journal.discard(doomed)
        return len({entry.record.id for entry in doomed})

    async def _purge(self, selection: Selection) -> None:
        newest, _ = await self._journal.position()
        await self._settled()
        found = await scopes_of(selection, self._registry)
        scopes = {scope.value for scope in found}
        if any(entry.record.scope in scopes for entry in await self._journal.unstored(newest)):
            raise MemoryUnavailable("not every deletion is stored yet; try again")
        for bucket in sorted({self._store.bucket_of(scope) for scope in scopes}):
            await self._store.purge(bucket)
        await self._journal.purge(scopes)
        await self._blocks.purge(scopes)
        self._drop(scopes)
        if selection.is_whole:
            await self._forget_names(selection, found)
        await asyncio.to_thread(_throw_away_damaged, self._folder)

    async def _forget_names(self, selection: Selection, found: Sequence[Scope]) -> None:
        """Leave nothing that names whose memories are gone; somebody who spoke meanwhile is there again."""
        if selection.user is None:
            await self._registry.forget_all(selection.tenant)
        else:
            named = {scope.tenant for scope in found} if selection.tenant is None else {selection.tenant}
            for tenant in named:
                await self._registry.forget_owner(tenant, selection.user)
        for listener in self.on_owner:
            await listener(selection.tenant, selection.user)
        await self._settled()
        left: set[str] = set()
        for bucket in {self._store.bucket_of(scope.value) for scope in found}:
            left |= await self._store.scopes_in(bucket)
        await self._registry.add_scopes([scope for scope in found if scope.value in left])


def _throw_away_damaged(folder: Path) -> None:
    shutil.rmtree(folder / "broken", ignore_errors=True)
    for path in folder.glob("*.broken-*"):
        path.unlink(missing_ok=True)
