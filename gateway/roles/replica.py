"""A replica of a cluster: the workers that keep its working sets current, and store what its buckets have to store."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.concurrency.listeners import Listener, notify
from gateway.concurrency.worker import Worker
from gateway.remember.bucket_writer import BucketWriter
from gateway.remember.lease_keeper import LeaseKeeper
from gateway.remember.row_builder import RowBuilder
from gateway.remember.writer import OnRows
from gateway.storage.bucket_numbers import LEADER
from gateway.storage.cluster import ClusterStorage
from gateway.storage.errors import StorageError
from gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from gateway.recall.followed_sets import FollowedSets, LogFollower

__all__ = ["Replica"]

_log = logging.getLogger("gateway.memory")
_POLL: Final = 0.1  # seconds


class Replica:
    """Runs the workers of a replica. `max_rows` and `max_bytes` limit the working sets; `on_change` are called with
    scopes whose memories any replica has changed, `on_stored` with rows that this one has stored, `on_take_over` with
    buckets that it owns from now on, and `on_absence` when the others may have taken it for ended."""

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
        on_take_over: Sequence[Listener[Collection[int]]] = (),
        on_absence: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._builder = builder
        self._telemetry = telemetry
        self._lease_seconds = lease_seconds
        self._on_take_over = on_take_over
        self._on_absence = on_absence
        self._owned: set[int] = set()
        self._taking_over = Worker("take-over", self._take_over, _log, "take_over_fault")
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
            is_leader=lambda: storage.leases.epoch(LEADER) > 0,
        )
        self._warming_up = Worker("warm-up", self._warm_up, _log, "warm_up_fault")
        self._keeper: LeaseKeeper | None = None
        self._follower: LogFollower | None = None

    def load(
        self, *, max_rows: int, max_bytes: int, on_change: Collection[Listener[Collection[str]]]
    ) -> "FollowedSets":
        """Build the working sets, and what keeps them current."""
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
        follower = self._follower = LogFollower(storage.log, sets, self._builder, on_change)
        self._telemetry.log_lag.set_function(lambda: follower.lag)
        self._telemetry.owned_buckets.set_function(lambda: len(storage.held()))
        return sets

    async def start(self) -> None:
        """Start the workers. The storage is open. Raises StorageError; call it again then."""
        assert self._follower is not None  # noqa: S101 — `load` was called
        storage = self._storage
        await storage.journal.catch_up()
        if self._keeper is None:
            self._keeper = LeaseKeeper(
                storage.leases, storage.meta.buckets, every=self._lease_seconds * 0.3, on_change=self._note_change
            )
            self._keeper.on_absence.append(self._on_absence)
        await self._keeper.start()
        await self._follower.start(storage.journal.last_seq)
        await self.writer.start()
        self._warming_up.start()

    async def _warm_up(self) -> None:
        """Open the tables before the first chats need them."""
        try:
            await self._storage.store.warm_up()
        except StorageError as error:
            _log.info("warm_up_ended", extra={"cause": str(error)})  # chats open them

    def _note_change(self) -> None:
        self.writer.wake()
        self._taking_over.start()

    async def _take_over(self) -> None:
        """Call the listeners with buckets that this replica owns from now on."""
        while new := self._storage.held().keys() - self._owned:
            self._owned |= new
            try:
                await notify(self._on_take_over, new)
            except StorageError as error:
                _log.warning("take_over_failed", extra={"cause": str(error)})
        self._owned &= self._storage.leases.held().keys()

    async def stop(self) -> None:
        await self._warming_up.stop()
        await self._taking_over.stop()
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

    async def reached(self, seq: int, timeout: float) -> bool:
        """Wait until this replica can find the log up to a number that it has written. False after the timeout."""
        return self._follower is not None and await self._follower.reached(seq, timeout)

    def report(self) -> Mapping[str, Any]:
        """The state of the workers, for `/ready`."""
        held = self._storage.leases.held()
        return {
            "log_lag_seconds": round(self._follower.lag, 3) if self._follower is not None else None,
            "owned_buckets": len(self._storage.held()),
            "buckets": self._storage.meta.buckets,
            "leases": "held" if held else "none",
        }

    async def drained(self, timeout: float, scopes: Collection[str] | None = None) -> bool:
        """Wait until all that was appended to these scopes before (None: to all) is in the tables, by any replica.
        False after the timeout."""
        log, deadline = self._storage.log, time.monotonic() + timeout
        await self._storage.journal.catch_up()
        last = self._storage.journal.last_seq
        if await log.is_drained(last, scopes):
            return True
        await log.request_flush(last)
        self.writer.wake()
        while not await log.is_drained(last, scopes):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def settled(self, timeout: float, scopes: Collection[str] | None = None) -> bool:
        """As `drained`; false also if the log cannot be read."""
        try:
            return await self.drained(timeout, scopes)
        except StorageError:
            return False
