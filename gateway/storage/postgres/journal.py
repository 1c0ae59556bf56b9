"""The journal of a gateway on the log that all gateways of a cluster share: `RecordLog` on PostgreSQL.

Appends that come while a commit runs share the next one (`GroupCommit`). While the database is away an append is
repeated for some seconds: a repetition adds nothing twice. This gateway stores the entries of the buckets that it
holds, as `held` says; entries of a bucket whose lease it lost are another gateway's, and are forgotten here.
"""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from gateway.memory.record import Record
from gateway.storage.errors import LeaseLost, StorageError
from gateway.storage.group_commit import GroupCommit
from gateway.storage.postgres.entries import NewEntries, collect_entries
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.values import BucketBacklog, Claim, GivenVector, Held, JournalEntry

__all__ = ["PostgresJournal"]

_MAX_INLINE: Final = 256  # records that are serialised on the event loop; a millisecond or two
_PATIENCE: Final = 5.0  # seconds of an outage of the database during which appends wait for its end
_RETRY_PAUSE: Final = 0.1
_MAX_ROWS: Final = 2_000  # of one commit
_COUNT_INTERVAL: Final = 3.0  # seconds between counts of the backlog, which other gateways change, too
_SWEEP_INTERVAL: Final = 60.0


class PostgresJournal:
    """The journal. `held`: the buckets that this gateway owns now, with the epochs of their leases. `on_append` is
    called in the loop after each commit."""

    def __init__(
        self,
        log: SharedLog,
        bucket_of: Callable[[str], int],
        held: Callable[[], Held],
        *,
        max_bytes: int,
        on_append: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._bucket_of = bucket_of
        self._held = held
        self._max_bytes = max_bytes
        self._on_append = on_append
        self._commits = GroupCommit(self._commit, rows_of=lambda entries: len(entries.ids), max_rows=_MAX_ROWS)
        self._order = asyncio.Lock()
        self._revived: dict[int, int] = {}  # epochs of the buckets whose dead letters were revived
        self._searchable: dict[int, int] = {}  # bucket by number: entries that recall has, and that are not stored yet
        self._stored: dict[int, tuple[int, int]] = {}  # bucket and size by number
        self._outdated: dict[str, int] = {}  # numbers of stored changes and deletions by id
        self._away_since = self._failed_at = -_PATIENCE  # when an outage began, and when an append last failed
        self._counted_at = self._swept_at = -_SWEEP_INTERVAL
        self.last_seq = 0
        self.backlog_entries = 0
        self.backlog_bytes = 0
        self.aside_entries = 0

    async def open(self) -> None:
        """Open the log. Raises StorageError."""
        if await self._log.open():
            self.last_seq = await self._log.last_seq()
            await self._count()

    async def close(self) -> None:
        """Commit pending appends, and close."""
        await self._commits.close()
        await self._log.close()

    async def append(
        self,
        records: Sequence[Record],
        *,
        may_exist: bool = False,
        vectors: Mapping[str, GivenVector] | None = None,
        claims: Mapping[str, Claim] | None = None,
    ) -> int:
        """Write records durably; existing ids are left unchanged, and records whose claims are refused are left out.
        Returns the number of the newest entry. Raises StorageError, and then has written none that a repetition would
        write twice."""
        suffix = f".{os.urandom(8).hex()}" if may_exist else ""
        async with self._order:  # a later change must not overtake an earlier one
            values = (records, suffix, vectors or {}, claims or {})
            if len(records) <= _MAX_INLINE:
                entries = collect_entries(*values)
            else:
                entries = await asyncio.to_thread(collect_entries, *values)
            done = self._enqueue(entries)
        return await asyncio.shield(done)

    def _enqueue(self, entries: NewEntries) -> "asyncio.Future[int]":
        if not self._log.is_open:
            raise StorageError("journal", "the journal is not open")
        if self.backlog_bytes + entries.size > self._max_bytes:
            raise StorageError("journal", "the backlog is at its limit")
        return self._commits.add(entries)

    async def drop_claims(self, scopes: Iterable[str]) -> None:
        """Let messages of these scopes be sent again. Raises StorageError."""
        await self._log.drop_claims(scopes)

    async def catch_up(self) -> None:
        """Take note of the newest entry of all gateways. Raises StorageError."""
        self.last_seq = max(self.last_seq, await self._log.last_seq())

    async def waiting(self, limit: int, buckets: Collection[int] | None = None) -> list[JournalEntry]:
        """The oldest entries of this gateway's buckets (or of those of them that are in `buckets`) that are due and
        that recall does not have, in order. Raises LeaseLost."""
        held = await self._take_over()
        if buckets is not None:
            held = {bucket: held[bucket] for bucket in buckets if bucket in held}
        return await self._log.waiting(held, limit, self._in_memory())

    async def backlogs(self) -> dict[int, BucketBacklog]:
        """What of this gateway's buckets waits and is due, by bucket. Raises StorageError."""
        held = await self._take_over()
        if time.monotonic() - self._counted_at >= _COUNT_INTERVAL:
            await self._count()
        return await self._log.backlogs(held)

    def mark_searchable(self, entries: Iterable[JournalEntry]) -> None:
        """Note that recall has these entries: `waiting` gives the ones after them. Later they are stored, or fail."""
        self._searchable |= {entry.seq: self._bucket_of(entry.record.scope) for entry in entries}

    async def next_due(self) -> float | None:
        """When the next failed entry is due, in seconds since 1970; None if there is none."""
        return await self._log.next_due(self._held(), self._in_memory())

    async def position(self) -> tuple[int, int]:
        """The newest sequence number, and the oldest one that cannot be found (newest + 1 if all can)."""
        seqs, known = await self._log.waiting_seqs(), self._in_memory()
        self.last_seq = max(self.last_seq, await self._log.last_seq())
        return self.last_seq, next((seq for seq in seqs if seq not in known), self.last_seq + 1)

    async def tombstones(self) -> list[Record]:
        """Deletions that are not stored yet."""
        return await self._log.tombstones()

    def mark_stored(self, entries: Iterable[JournalEntry]) -> None:
        """Note that the store has written entries, perhaps not durably."""
        for entry in entries:
            if entry.seq in self._stored:
                continue
            self._searchable.pop(entry.seq, None)
            self._stored[entry.seq] = self._bucket_of(entry.record.scope), entry.size
            if entry.record.version > 1 or entry.record.status == "deleted":
                self._outdated[entry.record.id] = max(entry.seq, self._outdated.get(entry.record.id, 0))
            self.backlog_entries -= 1
            self.backlog_bytes -= entry.size

    async def mark_synced(self) -> None:
        """Mark all entries done that were stored before the store's sync began. Raises LeaseLost if another gateway
        owns one of their buckets; those of other buckets are marked by the next call."""
        synced, outdated = dict(self._stored), self._outdated
        held = self._held()
        if any(bucket not in held for bucket, _ in synced.values()):
            self._forget_lost(held)
            raise LeaseLost("journal", "another gateway owns these memories now")
        if synced:
            self._outdated = {}
            try:
                await self._log.mark_stored(
                    _restrict(held, (bucket for bucket, _ in synced.values())), synced, outdated
                )
            except LeaseLost:
                self._stored, self._searchable, self._revived = {}, {}, {}  # `waiting` gives those that are still ours
                raise
            except StorageError:
                self._outdated = outdated | self._outdated
                raise
            for seq in synced:
                self._stored.pop(seq, None)
        if time.monotonic() - self._swept_at >= _SWEEP_INTERVAL:
            self._swept_at = time.monotonic()
            await self._log.sweep()

    async def mark_failed(self, entries: Iterable[JournalEntry]) -> int:
        """Count a failed try of each and schedule the next one. Returns how many became dead letters. Raises
        LeaseLost."""
        seqs = {entry.seq: self._bucket_of(entry.record.scope) for entry in entries}
        failed = await self._log.mark_failed(self._owned(seqs.values()), seqs)
        for seq in seqs:
            self._searchable.pop(seq, None)
        await self._count()
        return failed

    async def retained(self, seqs: Collection[int] | None = None) -> list[JournalEntry]:
        """The newest stored entries that still have their text, or some of them."""
        return await self._log.retained(seqs)

    async def retained_ids(self) -> dict[int, str]:
        """The ids of the records of these entries by number."""
        return await self._log.retained_ids()

    async def requeue(self, entries: Iterable[JournalEntry]) -> None:
        """Set entries that the store has lost back to waiting. Raises LeaseLost."""
        seqs = {entry.seq: self._bucket_of(entry.record.scope) for entry in entries}
        await self._log.requeue(self._owned(seqs.values()), seqs)
        await self._count()

    async def unstored(self, before: int) -> list[JournalEntry]:
        """Entries of all gateways up to a number that are not stored so far."""
        return [entry for entry in await self._log.unstored(before) if entry.seq not in self._stored]

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Drop entries that are obsolete and need not be stored. Raises LeaseLost."""
        seqs = {entry.seq: self._bucket_of(entry.record.scope) for entry in entries}
        await self._log.discard(self._owned(seqs.values()), seqs)
        for seq in seqs:
            self._searchable.pop(seq, None)
        await self._count()

    async def purge(self, scopes: Iterable[str] = ()) -> None:
        """Erase the retained texts of these scopes."""
        await self._log.purge(scopes)

    def _in_memory(self) -> set[int]:
        return self._searchable.keys() | self._stored.keys()

    def _owned(self, buckets: Iterable[int]) -> Held:
        """The epochs of these buckets. Raises LeaseLost if one of them is not held."""
        held, wanted = self._held(), set(buckets)
        if wanted - held.keys():
            raise LeaseLost("journal", "another gateway owns these memories now")
        return _restrict(held, wanted)

    async def _take_over(self) -> Held:
        """The buckets that this gateway owns now. Dead letters of new ones wait again; entries of lost ones are not
        counted any more."""
        held = self._held()
        self._forget_lost(held)
        new = {bucket: epoch for bucket, epoch in held.items() if self._revived.get(bucket) != epoch}
        if new:
            await self._log.revive(new)
            self._revived |= new
        return held

    def _forget_lost(self, held: Held) -> None:
        owned = {bucket: epoch for bucket, epoch in self._revived.items() if held.get(bucket) == epoch}
        if owned == self._revived:
            return
        self._revived = owned
        self._searchable = {seq: bucket for seq, bucket in self._searchable.items() if bucket in owned}
        self._stored = {seq: value for seq, value in self._stored.items() if value[0] in owned}

    async def _count(self) -> None:
        """Refresh the figures of the backlog, which exclude stored entries that are not marked yet."""
        waiting, size, aside = await self._log.count()
        self._counted_at = time.monotonic()
        self.backlog_entries = max(0, waiting - len(self._stored))
        self.backlog_bytes = max(0, size - sum(size for _, size in self._stored.values()))
        self.aside_entries = aside

    async def _commit(self, batch: Sequence[NewEntries]) -> list[int]:
        """Append a batch. Returns the number of the newest entry for each part of it."""
        added, last = await self._append(batch)
        self.last_seq = max(self.last_seq, last)
        self.backlog_entries += len(added)
        self.backlog_bytes += sum(entries.size for entries in batch) if added else 0
        if any(entries.ids for entries in batch):  # also those that an unanswered try has added
            self._on_append()
        return [max((added[id_] for id_ in entries.ids if id_ in added), default=last) for entries in batch]

    async def _append(self, batch: Sequence[NewEntries]) -> tuple[dict[str, int], int]:
        """Append a batch, again while the database is away; not if it has been away for long, so that each chat does
        not wait in vain."""
        while True:
            began = time.monotonic()
            try:
                appended = await self._log.append(batch)
            except StorageError as error:
                if not error.is_outage:
                    raise
                if began - self._failed_at > _PATIENCE:
                    self._away_since = began
                self._failed_at = time.monotonic()
                if self._failed_at + _RETRY_PAUSE > self._away_since + _PATIENCE:
                    raise
            else:
                self._failed_at = -_PATIENCE
                return appended
            await asyncio.sleep(_RETRY_PAUSE)


def _restrict(held: Held, buckets: Iterable[int]) -> Held:
    return {bucket: held[bucket] for bucket in sorted(set(buckets))}
