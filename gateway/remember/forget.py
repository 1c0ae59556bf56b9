"""Forgetting: at once in recall, then, where that is asked for, on the disk too.

A deletion is a new version of a memory without its text; the old text leaves the tables when they are next written
anew. `purge` does that now: the buckets of what was deleted are rewritten, their old files taken away, the journal and
the registry scrubbed, and what was set aside as damaged thrown away.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import MemoryUnavailable
from gateway.remember.selection import Selection, chosen, scopes_of
from gateway.store.journal import Journal, JournalFailed
from gateway.store.memories import MemoryStore, StoreFailed
from gateway.store.registry import Registry, RegistryFailed
from gateway.turn import Record

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
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._store = store
        self._registry = registry
        self._delete = delete
        self._settled = settled
        self._drop = drop
        self._purging = asyncio.Lock()

    async def forget(self, selection: Selection, *, purge: bool) -> Forgotten:
        """Delete what is selected. Raises MemoryUnavailable; what was deleted until then stays deleted."""
        try:
            await self._settled()
            deleted = 0
            async for _, records in chosen(selection, self._store, self._registry):
                deleted += await self._delete(records)
            if purge:
                async with self._purging:
                    await self._purge(selection)
        except (StoreFailed, JournalFailed, RegistryFailed, OSError) as error:
            raise MemoryUnavailable(f"not all could be forgotten now ({error}); try again") from error
        return Forgotten(deleted, purge)

    async def _purge(self, selection: Selection) -> None:
        await self._settled()
        found = await scopes_of(selection, self._registry)
        scopes = [scope.value for scope in found]
        for bucket in sorted({self._store.bucket_of(scope) for scope in scopes}):
            await self._store.purge(bucket)
        whole = [scope.value for scope in found if selection.is_whole and selection.user in (None, scope.owner)]
        await self._journal.purge(scopes, whole)
        self._drop(scopes)
        if selection.is_whole:
            known = await self._registry.all_scopes(selection.tenant)
            named = {(scope.tenant, scope.owner if selection.user is None else selection.user) for scope in known}
            for tenant, owner in named:
                await self._registry.forget_owner(tenant, owner)
        await asyncio.to_thread(_throw_away_damaged, self._folder)


def _throw_away_damaged(folder: Path) -> None:
    shutil.rmtree(folder / "broken", ignore_errors=True)
    for path in folder.glob("*.broken-*"):
        path.unlink(missing_ok=True)
