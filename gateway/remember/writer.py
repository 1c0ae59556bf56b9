"""Background worker that takes new entries from the journal, makes them searchable at once, and stores them in batches.

A new entry becomes a row within some milliseconds, and recall has it from then on; the table of all memories gets rows
in batches: when there are many, after `batch_window` seconds, or at once if a caller waits for it. Entries that the
table may have already (those of an earlier process, of an import, or of a retry) are stored first, since only the table
knows which version counts.

The entries of a failed batch are retried one by one (`FailedBatch`); during an outage the worker backs off. Entries
leave the journal only after the store's files are synced.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Protocol

from gateway import process
from gateway.concurrency.progress import SequenceProgress, wait_until_set
from gateway.concurrency.worker import Backoff, RepeatingWorker, Worker
from gateway.embedding.embedders import EmbedFailed
from gateway.remember.failed_batch import FailedBatch
from gateway.remember.pending_rows import Pending, PendingRows
from gateway.remember.row_builder import RowBuilder
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.protocols import MemoryTable, RecordLog
from gateway.storage.rows import Row
from gateway.storage.values import JournalEntry
from gateway.telemetry import Telemetry

__all__ = ["OnRows", "SearchIndex", "Writer"]

_log = logging.getLogger("gateway.writer")
_BATCH = 256
_MAX_UNSTORED = 4 * _BATCH  # searchable rows that the table does not have; beyond it, new entries wait for it
_GATHERING = 0.02  # seconds that new entries may wait for others, so that they are embedded together
_SYNC_EVERY = 3.0  # seconds
_MAINTAIN_EVERY = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_LAST_WRITE = 5.0
_STOP_TIMEOUT = 10.0
_FAILURES = (StorageError, EmbedFailed)

OnRows = Callable[[Sequence[Row]], Awaitable[None]]


class SearchIndex(Protocol):
    """The memories in RAM that recall searches."""

    async def add_unstored(self, rows: Sequence[Row]) -> None:
        """Make new rows searchable that the table does not have yet."""

    async def apply(self, rows: Sequence[Row]) -> None:
        """Make rows searchable that the table has."""

    def mark_stored(self, rows: Iterable[Row]) -> None:
        """Note that the table has rows that were added before."""

    def retract(self, rows: Sequence[Row]) -> None:
        """Remove rows that the table rejected, or has newer versions of."""


class Writer:
    """Moves entries from the journal into the index and the table. `on_stored` is called with each batch that the
    table has; `batch_window`: seconds that searchable rows may wait for the table. `batch_rows` (None: the default):
    rows that are not made to wait."""

    def __init__(
        self,
        journal: RecordLog,
        store: MemoryTable,
        builder: RowBuilder,
        index: SearchIndex,
        telemetry: Telemetry,
        *,
        on_stored: OnRows,
        batch_window: float,
        batch_rows: int | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._builder = builder
        self._failed_batch = FailedBatch(journal, store, builder)
        self._index = index
        self._telemetry = telemetry
        self._on_stored = on_stored
        self._wake = asyncio.Event()  # the journal has new entries
        self._hurry = asyncio.Event()  # a caller waits until they can be found
        self._due = asyncio.Event()  # it may be time to store or sync
        self._searchable = SequenceProgress()  # all entries up to this number are searchable, or failed
        self._stored = SequenceProgress()  # all entries up to this number are stored, or failed
        self._pending = PendingRows(window=batch_window, batch=batch_rows or _BATCH, most=_MAX_UNSTORED)
        self._flush_to = 0  # pending rows up to this number are to be stored now
        self._may_exist: set[int] = set()  # journal numbers of rows that a failed write may have stored
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._workers = [self._worker("indexer", self._take_entries), self._worker("writer", self._write)]
        self._maintenance = Worker("maintenance", self._maintain, _log, "maintenance_fault", stop_timeout=_STOP_TIMEOUT)
        self._table = asyncio.Lock()  # rows that are added while the table is synced may not be on the disk
        self._is_dirty = False
        self._is_sync_requested = False  # a caller waits for the sync
        self._next_sync = self._next_maintenance = 0.0
        self._clean = asyncio.Event()

    def _worker(self, name: str, work: Callable[[], Awaitable[None]]) -> RepeatingWorker:
        """A worker that backs off during outages."""
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)

        async def attempt() -> None:
            try:
                await work()
                pauses.reset()
            except _FAILURES as error:
                seconds = pauses.next()
                self._note_rest(failure_name(error), str(error), seconds)
                await asyncio.sleep(seconds)

        return RepeatingWorker(
            name,
            attempt,
            _log,
            "writer_fault",
            pauses=pauses,
            on_fault=lambda error, seconds: self._note_rest("fault", type(error).__name__, seconds),
            stop_timeout=_STOP_TIMEOUT,
        )

    def wake(self) -> None:
        """Signal that the journal has new entries."""
        self._wake.set()

    async def start(self) -> None:
        """Start the workers, with the entries that earlier processes left."""
        self.wake()
        for worker in self._workers:
            worker.start()

    async def stop(self) -> None:
        """Stop the workers, and write what is pending, so that the next start need not store it again."""
        await asyncio.gather(self._maintenance.stop(), *(worker.stop() for worker in self._workers))
        pending = self._pending.all()
        try:
            async with asyncio.timeout(_LAST_WRITE):
                if pending:  # perhaps a cancelled write has stored some of them
                    await self._finish(pending, await self._put([row for _, row in pending]))
        except Exception as error:  # noqa: BLE001 — the next start stores them
            _log.warning("record_not_stored", extra={"seq": pending[0][0].seq, "cause": failure_name(error)})
        with contextlib.suppress(*_FAILURES, TimeoutError):
            async with asyncio.timeout(_LAST_WRITE):
                if self._is_dirty:
                    await self._sync()

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until all current entries of the journal (or those up to a number) can be found by recall. False after
        the timeout."""
        target = self._journal.last_seq if seq is None else seq
        if self._searchable.value < target:
            self._hurry.set()
        return await self._searchable.reached(target, timeout)

    async def drained(self, timeout: float) -> bool:
        """Wait until all current entries of the journal are in the table. False after the timeout."""
        target = self._journal.last_seq
        self._flush_to = max(self._flush_to, target)
        self._hurry.set()
        self._due.set()
        return await self._stored.reached(target, timeout)

    async def synced(self, timeout: float) -> bool:
        """Wait until all current entries of the journal are in the table and synced to disk. False after the
        timeout."""
        if not await self.drained(timeout):
            return False
        if not self._is_dirty:
            return True
        self._clean.clear()
        self._is_sync_requested = True
        self._due.set()
        return await wait_until_set(self._clean, timeout)

    # From the journal into the index

    async def _take_entries(self) -> None:
        """Wait for entries, and make all that are due searchable."""
        await self._wait_for_entries()
        while True:
            await self._has_room.wait()
            self._wake.clear()
            self._hurry.clear()
            newest = self._journal.last_seq
            entries = await self._journal.waiting(_BATCH)
            self._note_backlog()
            if not entries:
                self._advance(newest)
                return
            try:
                await self._index_entries(entries)
            except Exception as error:  # noqa: BLE001 — one bad entry must not stop the others
                self._telemetry.drain_failures.labels(failure_name(error)).inc()
                await self._try_each(entries, lambda entry: self._index_entries([entry]))
            self._advance(entries[-1].seq)

    async def _wait_for_entries(self) -> None:
        """Wait until the journal has new entries and perhaps some more, or a failed entry is due."""
        due = await self._journal.next_due()
        await wait_until_set(self._wake, None if due is None else max(0.0, due - time.time()))
        await wait_until_set(self._hurry, _GATHERING)

    async def _index_entries(self, entries: Sequence[JournalEntry]) -> None:
        rows = await self._builder.build(entries)
        if any(entry.is_replay for entry in entries):
            await self._store_first(entries, rows)
            return
        try:
            await self._index.add_unstored(rows)
        except BaseException:
            self._index.retract(rows)
            raise
        self._journal.mark_searchable(entries)
        was_empty = not self._pending
        self._pending.add(entries, rows)
        if was_empty or self._pending.due_rows(self._flush_to):
            self._due.set()
        if self._pending.is_full:
            self._has_room.clear()

    async def _store_first(self, entries: Sequence[JournalEntry], rows: Sequence[Row]) -> None:
        """Store rows that the table may have already, after all that are pending, and index those that are current."""
        if self._pending:
            target = self._pending.last_seq
            self._flush_to = max(self._flush_to, target)
            self._due.set()
            await self._stored.reached(target)  # without a timeout: nothing goes on during an outage of the table
        async with self._table:
            current = await self._put(rows)
            self._journal.mark_stored(entries)
        await self._index.apply(current)
        self._index.mark_stored(rows)
        await self._note_stored(current)

    def _advance(self, seq: int) -> None:
        """Note that all entries up to a number are searchable, or failed."""
        self._searchable.advance(seq)
        if not self._pending:
            self._stored.advance(seq)

    # From the index into the table

    async def _write(self) -> None:
        """Wait until it is time, then store pending rows, sync and maintain the tables."""
        await self._wait_until_due()
        while batch := self._pending.due_rows(self._flush_to):
            await self._store_batch(batch)
            await self._sync_and_maintain()
        await self._sync_and_maintain()

    async def _wait_until_due(self) -> None:
        while not self._pending.due_rows(self._flush_to) and not self._is_sync_due():
            self._due.clear()
            moments = [self._pending.due_at] if self._pending else []
            moments += [self._next_sync] if self._is_dirty else []
            seconds = max(0.0, min(moments) - time.monotonic()) if moments else None
            await wait_until_set(self._due, seconds)

    def _is_sync_due(self) -> bool:
        return self._is_dirty and (self._is_sync_requested or time.monotonic() >= self._next_sync)

    async def _store_batch(self, batch: Sequence[Pending]) -> None:
        rows = current = [row for _, row in batch]
        seqs = {entry.seq for entry, _ in batch}
        try:
            if not self._may_exist.isdisjoint(seqs) or any(row.record.version > 1 for row in rows):
                current = await self._put(rows)
            else:
                await self._store.add(rows)
                self._is_dirty = True
        except Exception as error:  # noqa: BLE001 — one bad row must not stop the others
            self._may_exist |= seqs
            self._telemetry.drain_failures.labels(failure_name(error)).inc()
            await self._store_each(batch)
        else:
            await self._finish(batch, current)
        self._may_exist -= seqs
        self._note_backlog()

    async def _store_each(self, batch: Sequence[Pending]) -> None:
        """Store the rows of a failed batch one by one. Those that are rejected are retried later. Raises the error of
        an outage."""
        rows = {entry.seq: row for entry, row in batch}

        async def store(entry: JournalEntry) -> None:
            row = rows[entry.seq]
            new_rows = [row] if self._builder.fits(row) else await self._builder.build([entry])
            current = await self._put(new_rows)
            if new_rows[0] is not row:
                await self._index.apply(current)
            await self._finish([(entry, row)], current)

        failed = await self._try_each([entry for entry, _ in batch], store)
        self._index.retract([rows[entry.seq] for entry in failed])
        self._drop_pending({entry.seq for entry in failed})

    async def _finish(self, batch: Sequence[Pending], current: Sequence[Row]) -> None:
        """Note that the table has pending rows (`current`), or newer versions of them."""
        self._journal.mark_stored([entry for entry, _ in batch])
        self._index.mark_stored([row for _, row in batch])
        seqs = {row.seq for row in current}
        self._index.retract([row for entry, row in batch if entry.seq not in seqs])
        self._drop_pending({entry.seq for entry, _ in batch})
        await self._note_stored(current)

    def _drop_pending(self, seqs: Collection[int]) -> None:
        """Remove pending rows that are stored, or failed."""
        self._pending.remove(seqs)
        if not self._pending.is_full:
            self._has_room.set()
        last = max(seqs, default=0)
        self._stored.advance(self._pending.first_seq - 1 if self._pending else max(last, self._searchable.value))

    async def _put(self, rows: Sequence[Row]) -> list[Row]:
        """Store rows that may exist. Returns those that are current."""
        current = await self._store.put(rows)
        self._is_dirty = True
        return current

    async def _note_stored(self, rows: Sequence[Row]) -> None:
        self._due.set()  # for the sync
        await self._on_stored(rows)
        self._telemetry.drained.inc(len(rows))

    def _note_backlog(self) -> None:
        self._telemetry.backlog.set(self._journal.backlog_entries)
        self._telemetry.aside.set(self._journal.aside_entries)

    async def _try_each(
        self, entries: Sequence[JournalEntry], action: Callable[[JournalEntry], Awaitable[None]]
    ) -> list[JournalEntry]:
        """Do an action with each entry of a failed batch. Returns those that fail. Raises the error of an outage."""
        failed = await self._failed_batch.try_each(entries, action)
        if failed:
            self._wake.set()  # to look when they are due again
        return failed

    # Sync and maintenance

    async def _sync_and_maintain(self) -> None:
        """Sync stored rows and maintain the tables at intervals, also during a long backlog."""
        if not self._is_sync_due():
            return
        now = time.monotonic()
        self._next_sync = now + _SYNC_EVERY
        await self._sync()
        if now >= self._next_maintenance:
            self._next_maintenance = now + _MAINTAIN_EVERY
            self._maintenance.start()

    async def _sync(self) -> None:
        async with self._table:
            await self._store.sync()
            await self._journal.mark_synced()
            self._is_dirty = self._is_sync_requested = False
        self._clean.set()

    async def _maintain(self) -> None:
        """Maintain the tables, concurrently with writing: a large one takes seconds."""
        try:
            async for _ in self._store.maintain():
                await asyncio.to_thread(process.trim)  # each part leaves some megabytes of free heap
        except StorageError as error:
            _log.warning("maintenance_failed", extra={"cause": str(error)})

    def _note_rest(self, cause: str, detail: str, seconds: float) -> None:
        _log.warning("writer_backoff", extra={"cause": cause, "detail": detail, "seconds": seconds})
        self._wake.set()  # entries that were not taken are taken after the pause
