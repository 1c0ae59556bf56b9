"""Background worker of a replica that stores the journal's entries of the buckets that it owns.

The rows of a bucket are stored when there are many, after `flush_seconds`, or at once if a caller waits for them: each
write to object storage costs the same for one row as for hundreds. Until then they are only counted. Recall does not
wait for it: every replica follows the journal. What an earlier owner of a bucket has left is stored at once: it has
waited. Entries that a table may have already (those of an earlier owner, changes, retries) are compared with it.

A bucket that cannot be stored is tried again after a pause, while the others are stored.

What an owner does after it lost a lease has no effect: the journal and the catalog refuse it, and the next owner stores
the same entries.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from gateway import process
from gateway.concurrency.progress import wait_until_set
from gateway.concurrency.worker import Backoff, RepeatingWorker, Worker
from gateway.embedding.embedders import EmbedFailed
from gateway.remember.failed_batch import FailedBatch
from gateway.remember.row_builder import RowBuilder
from gateway.remember.writer import OnRows
from gateway.storage.errors import LeaseLost, StorageError, failure_name
from gateway.storage.protocols import MemoryTable, RecordLog
from gateway.storage.rows import Row
from gateway.storage.values import BucketBacklog, JournalEntry
from gateway.telemetry import Telemetry

__all__ = ["BucketWriter"]

_log = logging.getLogger("gateway.writer")
_MAX_READ: Final = 1_024  # entries of one look at the journal
_LOOK_EVERY: Final = 1.0  # seconds; all replicas append
_MAINTAIN_EVERY: Final = 60.0
_SWEEP_EVERY: Final = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_STOP_TIMEOUT: Final = 20.0


class BucketLog(RecordLog, Protocol):
    """A journal of which this process stores some buckets."""

    async def backlogs(self) -> Mapping[int, BucketBacklog]:
        """What waits and is due, by bucket."""

    async def waiting(self, limit: int, buckets: Collection[int] | None = None) -> list[JournalEntry]:
        """The oldest entries of these buckets that are due, in order."""


class SweptTable(MemoryTable, Protocol):
    """A table on a place that several processes share."""

    async def sweep(self, now: float) -> int:
        """Drop what belongs to no part for an hour. `now` is of `time.monotonic`."""


class _Failure:
    """The failed tries of a bucket, which is not tried before `until`, of `time.monotonic`. `seconds`: the last
    pause."""

    def __init__(self) -> None:
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self.until = self.seconds = 0.0

    def note(self) -> None:
        self.seconds = self._pauses.next()
        self.until = time.monotonic() + self.seconds


class BucketWriter:
    """Stores the entries of owned buckets. `bucket_of` gives the bucket of a scope; `flush_requested` returns the
    number up to which any replica wants entries to be stored now; `on_stored` is called with rows that a table has.
    `is_leader`: this replica drops what belongs to no bucket."""

    def __init__(
        self,
        journal: BucketLog,
        store: SweptTable,
        builder: RowBuilder,
        telemetry: Telemetry,
        *,
        bucket_of: Callable[[str], int],
        flush_requested: Callable[[], Awaitable[int]],
        on_stored: OnRows,
        flush_rows: int,
        flush_seconds: float,
        is_leader: Callable[[], bool] = lambda: False,
    ) -> None:
        self._journal = journal
        self._store = store
        self._builder = builder
        self._failed_batch = FailedBatch(journal, store, builder)
        self._telemetry = telemetry
        self._bucket_of = bucket_of
        self._flush_requested = flush_requested
        self._on_stored = on_stored
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._is_leader = is_leader
        self._swept_at = -_SWEEP_EVERY
        self._waiting_since: dict[int, float] = {}  # by bucket, of `time.monotonic`
        self._uncertain: set[int] = set()  # buckets that a failed write may have added rows to
        self._flush_to = 0  # entries up to this number are to be stored now
        self._wake = asyncio.Event()
        self._failures: dict[int, _Failure] = {}  # of buckets that could not be stored
        self._maintained_at = time.monotonic()
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._worker = RepeatingWorker(
            "bucket-writer", self._work, _log, "writer_fault", pauses=self._pauses, stop_timeout=_STOP_TIMEOUT
        )
        self._maintenance = Worker("maintenance", self._maintain, _log, "maintenance_fault")

    def wake(self) -> None:
        """Look at the journal now: a caller waits for an entry, or other buckets are owned."""
        self._wake.set()

    async def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        """Stop. Entries that are not stored wait in the journal."""
        await self._maintenance.stop()
        await self._worker.stop()

    async def _work(self) -> None:
        await wait_until_set(self._wake, min(_LOOK_EVERY, self._flush_seconds))
        self._wake.clear()
        try:
            self._flush_to = await self._flush_requested()
            while await self._store_due():
                pass
            self._pauses.reset()
            if time.monotonic() - self._maintained_at >= _MAINTAIN_EVERY:
                self._maintained_at = time.monotonic()
                self._maintenance.start()
        except LeaseLost as error:
            self._telemetry.refused_writes.inc()
            _log.warning("write_refused", extra={"cause": str(error)})
        except (StorageError, EmbedFailed) as error:
            seconds = self._pauses.next()
            self._log_backoff(error, seconds)
            await asyncio.sleep(seconds)

    async def _store_due(self) -> bool:
        """Store the entries of all buckets whose turn it is. True if there may be more."""
        backlogs = await self._journal.backlogs()
        self._telemetry.backlog.set(self._journal.backlog_entries)
        self._telemetry.aside.set(self._journal.aside_entries)
        now = time.monotonic()
        self._waiting_since = {bucket: self._waiting_since.get(bucket, now) for bucket in backlogs}
        self._failures = {bucket: failure for bucket, failure in self._failures.items() if bucket in backlogs}
        due = [bucket for bucket, backlog in backlogs.items() if self._is_due(bucket, backlog, now)]
        if not due:
            return False
        entries = await self._journal.waiting(_MAX_READ, due)
        by_bucket: dict[int, list[JournalEntry]] = defaultdict(list)
        for entry in entries:
            by_bucket[self._bucket_of(entry.record.scope)].append(entry)
        if len(by_bucket) < len(due):  # some were stored, and could not be marked
            await self._journal.mark_synced()
        errors: list[StorageError | EmbedFailed] = []
        for bucket, members in by_bucket.items():
            try:
                await self._store_bucket(bucket, members)
            except LeaseLost:
                raise
            except (StorageError, EmbedFailed) as error:  # of this bucket's tables, or an outage: the others are tried
                self._failures.setdefault(bucket, _Failure()).note()
                errors.append(error)
            else:
                self._failures.pop(bucket, None)
        if errors:
            self._log_backoff(errors[0], max(failure.seconds for failure in self._failures.values()), len(errors))
        return len(entries) == _MAX_READ

    @staticmethod
    def _log_backoff(error: StorageError | EmbedFailed, seconds: float, buckets: int = 0) -> None:
        detail = {"cause": failure_name(error), "detail": str(error), "seconds": seconds, "buckets": buckets}
        _log.warning("writer_backoff", extra=detail)

    def _is_due(self, bucket: int, backlog: BucketBacklog, now: float) -> bool:
        if bucket in self._failures and now < self._failures[bucket].until:
            return False
        is_old = now - self._waiting_since[bucket] >= self._flush_seconds
        return is_old or backlog.count >= self._flush_rows or backlog.oldest <= self._flush_to or backlog.is_inherited

    async def _store_bucket(self, bucket: int, entries: Sequence[JournalEntry]) -> None:
        """Store the entries of a bucket. Raises LeaseLost, and the error of an outage."""
        try:
            rows = await self._builder.build(entries)
            current = await self._write(bucket, rows, entries)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 — one bad entry must not stop the others
            self._uncertain.add(bucket)
            self._telemetry.drain_failures.labels(failure_name(error)).inc()
            await self._store_each(bucket, entries)
            return
        await self._finish(bucket, entries, current)

    async def _write(self, bucket: int, rows: Sequence[Row], entries: Collection[JournalEntry]) -> Sequence[Row]:
        """Write rows. Returns those that are current."""
        may_exist = any(entry.is_replay for entry in entries) or any(row.record.version > 1 for row in rows)
        if bucket in self._uncertain or may_exist:
            return await self._store.put(rows)
        await self._store.add(rows)
        return rows

    async def _finish(self, bucket: int, entries: Sequence[JournalEntry], current: Sequence[Row]) -> None:
        self._journal.mark_stored(entries)
        await self._store.sync()
        await self._journal.mark_synced()
        self._uncertain.discard(bucket)
        self._waiting_since.pop(bucket, None)
        await self._on_stored(current)
        self._telemetry.drained.inc(len(current))

    async def _store_each(self, bucket: int, entries: Sequence[JournalEntry]) -> None:
        """Store the entries of a failed batch one by one. Raises LeaseLost, and the error of an outage."""

        async def store(entry: JournalEntry) -> None:
            try:
                rows = await self._builder.build([entry])
                await self._finish(bucket, [entry], await self._store.put(rows))
            finally:
                self._uncertain.add(bucket)  # the failed batch may have added rows of the other entries

        await self._failed_batch.try_each(entries, store)
        self._uncertain.discard(bucket)

    async def _maintain(self) -> None:
        """Maintain the tables of owned buckets, while rows are stored."""
        try:
            async for _ in self._store.maintain():
                await asyncio.to_thread(process.trim)
            if self._is_leader() and time.monotonic() - self._swept_at >= _SWEEP_EVERY:
                self._swept_at = time.monotonic()
                await self._store.sweep(self._swept_at)
        except StorageError as error:
            _log.warning("maintenance_failed", extra={"cause": str(error)})
