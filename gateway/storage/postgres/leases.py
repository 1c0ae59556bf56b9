"""Leases: which gateway of a cluster owns which buckets, for some seconds at a time.

A lease is a row with an epoch, which grows with each change of owner, and an end by the server's clock. Its owner
renews all its leases in one statement, every few seconds, and counts by its own monotonic clock from the beginning of
the last renewal that succeeded: after 70 % of their length it regards its leases as lost, whether the server answers or
not. What it does in spite of that is refused by the epoch, in the transaction that would change something.
"""

import math
import secrets
import time
from collections.abc import Collection
from typing import Final

from gateway.storage.errors import StorageError
from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.values import Held

__all__ = ["Leases"]

_TRUSTED_SHARE: Final = 0.7  # of a lease's length, which its owner relies on
_ACQUIRE: Final = """
INSERT INTO leases AS l (bucket, epoch, owner, until, since)
SELECT b, 1, ?, now_seconds() + ?, (SELECT coalesce(max(seq), 0) FROM entries) FROM unnest(?::int[]) AS b
ORDER BY b ON CONFLICT (bucket) DO UPDATE
SET epoch=l.epoch + 1, owner=excluded.owner, until=excluded.until, since=excluded.since
WHERE l.until<now_seconds() RETURNING l.bucket, l.epoch
"""
_RENEW: Final = """
UPDATE leases l SET until=now_seconds() + ? FROM unnest(?::int[], ?::bigint[]) AS h (bucket, epoch)
WHERE l.bucket=h.bucket AND l.epoch=h.epoch AND l.owner=? AND l.until>=now_seconds() RETURNING l.bucket, l.epoch
"""
_RELEASE: Final = """
UPDATE leases l SET until=0 FROM unnest(?::int[], ?::bigint[]) AS h (bucket, epoch)
WHERE l.bucket=h.bucket AND l.epoch=h.epoch AND l.owner=?
"""
_DROP_ENDED: Final = "DELETE FROM leases WHERE bucket<=? AND until<now_seconds() - ? RETURNING bucket"
_ENDED_AFTER: Final = 3_600.0  # seconds
_NEXT_END: Final = "SELECT min(until) - now_seconds() FROM leases WHERE until>=now_seconds() AND owner<>?"


class Leases:
    """The leases of one gateway. The caller renews them every third of `seconds`."""

    def __init__(self, url: str, *, seconds: float = 6.0) -> None:
        self.owner = secrets.token_hex(8)
        self._seconds = seconds
        self._database = PostgresDatabase(url, "leases", limit=seconds * 0.5)
        self._epochs: dict[int, int] = {}
        self._renewed_at: dict[int, float] = {}  # monotonic, when the statement was sent

    async def open(self) -> None:
        """Raises StorageError."""
        await self._database.open()

    async def close(self) -> None:
        """Release all leases, so that other gateways need not wait for their end."""
        try:
            await self.release(list(self._epochs))
        except StorageError:
            self._forget(list(self._epochs))  # they run out
        await self._database.close()

    def held(self) -> Held:
        """The buckets that this gateway owns, with their epochs; without those that it may have lost."""
        earliest = time.monotonic() - self._seconds * _TRUSTED_SHARE
        return {bucket: epoch for bucket, epoch in self._epochs.items() if self._renewed_at[bucket] > earliest}

    def epoch(self, bucket: int) -> int:
        """The epoch of a bucket that this gateway owns; 0 if it may have lost it."""
        is_trusted = self._renewed_at.get(bucket, -math.inf) > time.monotonic() - self._seconds * _TRUSTED_SHARE
        return self._epochs[bucket] if is_trusted else 0

    async def acquire(self, buckets: Collection[int]) -> Held:
        """Take the leases of these buckets that are free. Returns the new ones. Raises StorageError."""
        absent = sorted(set(buckets) - self.held().keys())
        began = time.monotonic()
        rows = await self._database.read(_ACQUIRE, (self.owner, self._seconds, absent))
        for bucket, epoch in rows:
            self._epochs[bucket], self._renewed_at[bucket] = epoch, began
        return dict(rows)

    async def renew(self) -> Collection[int]:
        """Extend all leases. Returns the buckets whose leases were lost. Raises StorageError, and changes nothing
        then."""
        asked = dict(self._epochs)
        began = time.monotonic()
        values = (self._seconds, list(asked), list(asked.values()), self.owner)
        renewed = dict(await self._database.read(_RENEW, values))
        for bucket in renewed:
            self._renewed_at[bucket] = began
        lost = asked.keys() - renewed.keys()
        self._forget(lost)
        return lost

    async def release(self, buckets: Collection[int]) -> None:
        """Give leases up. Raises StorageError; they count as given up even then."""
        epochs = {bucket: self._epochs[bucket] for bucket in buckets if bucket in self._epochs}
        self._forget(epochs)
        await self._database.read(_RELEASE, (list(epochs), list(epochs.values()), self.owner))

    async def owners(self) -> dict[int, str]:
        """The owners of all leases that have not run out, by bucket."""
        return dict(await self._database.read("SELECT bucket, owner FROM leases WHERE until>=now_seconds()"))

    async def next_end(self) -> float:
        """Seconds until the first lease of another gateway runs out, unless it is renewed; infinite if there is
        none."""
        rows = await self._database.read(_NEXT_END, (self.owner,))
        return math.inf if rows[0][0] is None else float(rows[0][0])

    async def drop_ended(self, highest: int) -> None:
        """Delete the leases with numbers up to this one that ran out an hour ago: their owners never come back. Raises
        StorageError."""
        await self._database.read(_DROP_ENDED, (highest, _ENDED_AFTER))

    def _forget(self, buckets: Collection[int]) -> None:
        for bucket in list(buckets):
            self._epochs.pop(bucket, None)
            self._renewed_at.pop(bucket, None)
