"""Keeps a replica's share of the buckets: renews its leases, takes free ones, and gives some up when replicas join.

Each replica has a lease of its own beside those of buckets, so that all are counted. A bucket whose owner died is free
when its lease has run out, and the others look for it at that moment.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.storage.bucket_numbers import FIRST_PRESENCE, LEADER
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.values import Held

__all__ = ["BucketLeases", "LeaseKeeper", "shares"]

_log = logging.getLogger("gateway.writer")
_HASTE: Final = 1 / 6  # of the time between renewals, after which a replica that lacks buckets looks again
_MARGIN: Final = 0.05  # seconds after the end of a lease


class BucketLeases(Protocol):
    """The leases of this replica. Methods that are async raise StorageError."""

    @property
    def owner(self) -> str: ...

    def held(self) -> Held: ...

    async def acquire(self, buckets: Collection[int]) -> Held: ...

    async def renew(self) -> Collection[int]: ...

    async def release(self, buckets: Collection[int]) -> None: ...

    async def owners(self) -> dict[int, str]: ...

    async def next_end(self) -> float: ...

    async def drop_ended(self, highest: int) -> None: ...


class LeaseKeeper:
    """Keeps leases on a fair share of `buckets` buckets. `on_change` is called when the owned buckets have changed.
    `every`: seconds between renewals, at most a third of a lease's length."""

    def __init__(self, leases: BucketLeases, buckets: int, *, every: float, on_change: Callable[[], None]) -> None:
        self._leases = leases
        self._buckets = buckets
        self._every = every
        self._on_change = on_change
        self.on_absence: list[Callable[[], None]] = []
        """Called when others may have taken this replica for ended, and it is back."""
        self._was_present = False
        self._lacks_buckets = False  # others are to give some up
        self._pause = every
        self._presence = FIRST_PRESENCE - secrets.randbelow(2**30)
        self._worker = RepeatingWorker("leases", self._work, _log, "leases_fault", pauses=Backoff(every))

    async def start(self) -> None:
        """Take a first share, and go on in the background. Raises StorageError."""
        await self._keep()
        self._worker.start()

    async def stop(self) -> None:
        """Stop, and give all buckets up."""
        await self._worker.stop()
        try:
            await self._leases.release(list(self._leases.held()))
        except StorageError:
            _log.info("leases_run_out")  # others wait for that

    async def _work(self) -> None:
        await asyncio.sleep(self._pause)
        try:
            await self._keep()
        except StorageError as error:
            self._pause = self._every / 3  # the database may be back before the leases run out
            _log.warning("leases_not_renewed", extra={"cause": failure_name(error), "detail": str(error)})

    async def _keep(self) -> None:
        self._pause = self._every
        before = self._owned()
        if self._leases.held():
            lost = await self._leases.renew()
            if lost:
                _log.warning("leases_lost", extra={"count": len(lost)})
        if self._presence not in self._leases.held():
            await self._leases.acquire([self._presence])
            for listener in self.on_absence if self._was_present else ():
                listener()
            self._was_present = True
            await self._leases.drop_ended(FIRST_PRESENCE)  # of replicas that were there before
        if LEADER not in self._leases.held():
            await self._leases.acquire([LEADER])  # if it is free
        await self._balance(await self._leases.owners())
        if self._owned() != before:
            self._on_change()
        haste = _HASTE if self._lacks_buckets else 1.0
        self._pause = min(self._every * haste, await self._leases.next_end() + _MARGIN)

    async def _balance(self, owners: Mapping[int, str]) -> None:
        """Give up what is more than this replica's share of the buckets, or take free ones up to it."""
        mine = sorted(self._owned())
        counts = Counter(dict.fromkeys(owners.values(), 0) | {self._leases.owner: 0})
        counts.update(owner for bucket, owner in owners.items() if bucket >= 0)
        share = shares(counts, self._buckets)[self._leases.owner]
        if len(mine) > share:
            await self._leases.release(mine[share:])
        elif len(mine) < share:
            free = [bucket for bucket in range(self._buckets) if bucket not in owners]
            secrets.SystemRandom().shuffle(free)  # replicas that start together take different ones
            if free:
                await self._leases.acquire(free[: share - len(mine)])
        self._lacks_buckets = len(self._owned()) < share

    def _owned(self) -> set[int]:
        return {bucket for bucket in self._leases.held() if bucket >= 0}


def shares(counts: Mapping[str, int], buckets: int) -> dict[str, int]:
    """How many buckets each replica is to own, by its name, if they own so many now: equal numbers. If that leaves some
    over, those with the most have one more, so that as few as possible move."""
    least, rest = divmod(buckets, len(counts))
    by_count = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: least + (rank < rest) for rank, name in enumerate(by_count)}
