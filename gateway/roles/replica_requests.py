"""What a replica asks the owners of buckets for: only they may rewrite tables, and drop entries of the log."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final

from gateway import bus_kinds
from gateway.bus import Bus
from gateway.errors import MemoryUnavailable
from gateway.storage.cluster import ClusterStorage
from gateway.storage.errors import StorageError
from gateway.storage.values import JournalEntry

__all__ = ["ReplicaRequests"]

_TIMEOUT: Final = 300.0  # seconds: a bucket is rewritten meanwhile

Action = Callable[[Any], Awaitable[None]]


class ReplicaRequests:
    """Does what concerns buckets of this replica, and asks others for the rest."""

    def __init__(self, storage: ClusterStorage, bus: Bus) -> None:
        self._storage = storage
        self._bus = bus
        bus.on(bus_kinds.PURGE, self._purge, is_slow=True)
        bus.on(bus_kinds.DISCARD, self._discard, is_slow=True)

    async def purge(self, scopes: Iterable[str]) -> None:
        """Erase deleted rows of these scopes for good. Raises StorageError or MemoryUnavailable."""
        buckets: dict[int, list[str]] = defaultdict(list)
        for scope in scopes:
            buckets[self._storage.bucket_of(scope)].append(scope)
        await self._distribute(bus_kinds.PURGE, buckets, self._purge)

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Drop entries that need not be stored. Raises StorageError or MemoryUnavailable."""
        buckets: dict[int, list[int]] = defaultdict(list)
        for entry in entries:
            buckets[self._storage.bucket_of(entry.record.scope)].append(entry.seq)
        await self._distribute(bus_kinds.DISCARD, buckets, self._discard)

    async def _distribute(self, kind: str, buckets: dict[int, list[Any]], act: Action) -> None:
        """Let the owner of each bucket act on the items of it, this replica among them."""
        if not buckets:
            return
        owners = await self._storage.leases.owners()
        if any(bucket not in owners for bucket in buckets):
            raise MemoryUnavailable("a part of the memory has no owner at the moment; try again in some seconds")
        by_owner: dict[str, list[Any]] = defaultdict(list)
        own: list[Any] = []
        for bucket, items in buckets.items():
            target = own if self._storage.leases.epoch(bucket) else by_owner[owners[bucket]]
            target += items
        if own:
            await act(own)
        deadline = time.monotonic() + _TIMEOUT
        for owner, items in by_owner.items():
            await self._bus.require(owner, kind, items, deadline - time.monotonic())

    async def _purge(self, scopes: Collection[str]) -> None:
        """Raises StorageError, also if one of them belongs to another replica now."""
        self._require_owned(self._storage.bucket_of(scope) for scope in scopes)
        await self._storage.store.purge(scopes)

    async def _discard(self, seqs: Collection[int]) -> None:
        journal, wanted = self._storage.journal, set(seqs)
        pending = [entry for entry in await journal.unstored(max(wanted)) if entry.seq in wanted]
        await journal.discard(pending)

    def _require_owned(self, buckets: Iterable[int]) -> None:
        if not all(map(self._storage.leases.epoch, set(buckets))):
            raise StorageError("store", "another gateway owns this part of the memory now", is_outage=True)
