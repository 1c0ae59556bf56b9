"""A replica of a cluster: the workers that keep its working sets current, and store what its buckets have to store."""

import asyncio
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from gateway.concurrency.listeners import Listener
from gateway.remember.bucket_writer import BucketWriter
from gateway.remember.lease_keeper import LeaseKeeper
from gateway.remember.row_builder import RowBuilder
from gateway.remember.writer import OnRows
from gateway.storage.cluster import ClusterStorage
from gateway.storage.errors import StorageError
from gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from gateway.recall.followed_sets import FollowedSets, LogFollower

__all__ = ["Replica"]

_POLL: Final = 0.1  # seconds


class Replica:
    """The workers. `max_rows` and `max_bytes` are limits of the working sets; `on_change` are called with scopes whose
    memories any replica has changed, and `on_stored` with rows that this one has stored."""

    def __init__(
        self,
        storage: ClusterStorage,
        builder: RowBuilder,
        telemetry: Telemetry,
        *,
        lease_seconds: float,
        flush_rows: int,
        flush_seconds: float,
        on_stored: OnRows,
    ) -> None:
        self._storage = storage
        self._builder = builder
        self._telemetry = telemetry
        self._lease_seconds = lease_seconds
        self.writer = BucketWriter(
            storage.journal,
            storage.store,
            builder,
            telemetry,
            bucket_of=storage.bucket_of,
            flush_requested=storage.log.flush_requested,
            on_stored=on_stored,
            flush_rows=flush_rows,
            flush_seconds=flush_seconds,
        )
        self._keeper: LeaseKeeper | None = None
        self._follower: LogFollower | None = None

    async def start(
        self, *, max_rows: int, max_bytes: int, on_change: Collection[Listener[Collection[str]]]
    ) -> "FollowedSets":
        """Start the workers. The storage is open. Returns the working sets. Raises StorageError."""
        from gateway.recall.followed_sets import FollowedSets, LogFollower  # noqa: PLC0415 — imports numpy

        storage = self._storage
        sets = FollowedSets(
            storage.store,
            self._telemetry,
            max_rows=max_rows,
            max_bytes=max_bytes,
            log=storage.log,
            builder=self._builder,
        )
        await storage.journal.catch_up()
        self._follower = LogFollower(storage.log, sets, self._builder, on_change)
        await self._follower.start(storage.journal.last_seq)
        self._keeper = LeaseKeeper(
            storage.leases, storage.meta.buckets, every=self._lease_seconds * 0.3, on_change=self.writer.wake
        )
        await self._keeper.start()
        await self.writer.start()
        return sets

    async def stop(self) -> None:
        await self.writer.stop()
        if self._keeper is not None:
            await self._keeper.stop()
        if self._follower is not None:
            await self._follower.stop()

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until this replica can find the log up to a number (None: all of it). False after the timeout."""
        if self._follower is None:
            return False
        if seq is None:
            await self._storage.journal.catch_up()
        return await self._follower.reached(self._storage.journal.last_seq if seq is None else seq, timeout)

    async def drained(self, timeout: float) -> bool:
        """Wait until all that was appended before is in the tables, by any replica. False after the timeout."""
        journal, deadline = self._storage.journal, time.monotonic() + timeout
        await journal.catch_up()
        last = journal.last_seq
        if await journal.unstored(last):
            await self._storage.log.request_flush(last)
            self.writer.wake()
        while await journal.unstored(last):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def settled(self, timeout: float) -> bool:
        """The same, false also if the log cannot be read."""
        try:
            return await self.drained(timeout)
        except StorageError:
            return False
