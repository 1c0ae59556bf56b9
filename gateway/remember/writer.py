"""Background worker that drains the journal into the store, in order, in batches.

The entries of a failed batch are retried one by one. If some succeed, or store and embedder prove to work, the others
are poison records: they are retried later, and become dead letters after five tries. Otherwise it is an outage: no
try is counted, and the worker backs off. Entries leave the journal only after the store's files are synced.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from gateway import process
from gateway.concurrency.worker import Backoff, RepeatingWorker, Worker
from gateway.embedding.embedders import EmbedFailed
from gateway.embedding.kinds import Embedders
from gateway.memory.record import Record
from gateway.remember.measure import measure
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.protocols import MemoryTable, RecordLog
from gateway.storage.rows import Row
from gateway.storage.values import JournalEntry
from gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from gateway.embedding.embedders import Vectors

__all__ = ["Writer"]

_log = logging.getLogger("gateway.writer")
_BATCH = 256
_SYNC_EVERY = 3.0  # seconds
_MAINTAIN_EVERY = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_LAST_SYNC = 5.0
_STOP_TIMEOUT = 10.0
_PROBE = "Is anybody there?"
_FAILURES = (StorageError, EmbedFailed)

OnRows = Callable[[Sequence[Row]], Awaitable[None]]


class Writer:
    """Drains the journal into the store. `count` counts tokens; `on_rows` is called with each batch that was stored."""

    def __init__(
        self,
        journal: RecordLog,
        store: MemoryTable,
        embedders: Embedders,
        telemetry: Telemetry,
        *,
        count: Callable[[str], int],
        on_rows: OnRows,
        batch_window: float,
    ) -> None:
        self._journal = journal
        self._store = store
        self._embedders = embedders
        self._telemetry = telemetry
        self._count = count
        self._on_rows = on_rows
        self._batch_window = batch_window
        self._wake = asyncio.Event()
        self._reached = 0  # all entries up to this number were stored or failed
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._worker = RepeatingWorker(
            "writer",
            self._work,
            _log,
            "writer_fault",
            pauses=self._pauses,
            on_fault=lambda error, seconds: self._note_rest("fault", type(error).__name__, seconds),
            stop_timeout=_STOP_TIMEOUT,
        )
        self._maintenance = Worker("maintenance", self._maintain, _log, "maintenance_fault", stop_timeout=_STOP_TIMEOUT)
        self._is_dirty = False
        self._is_sync_requested = False  # a caller waits for the sync
        self._next_sync = self._next_maintenance = 0.0
        self._clean = asyncio.Event()

    def wake(self) -> None:
        """Signal that the journal has new entries."""
        self._wake.set()

    async def start(self) -> None:
        """Start the worker, with the entries that earlier processes left."""
        self.wake()
        self._worker.start()

    async def stop(self) -> None:
        await asyncio.gather(self._worker.stop(), self._maintenance.stop())
        if self._is_dirty:  # so that the next start need not store entries again
            with contextlib.suppress(*_FAILURES, TimeoutError):
                async with asyncio.timeout(_LAST_SYNC):
                    await self._sync()

    async def drained(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until all current entries of the journal (or those up to a number) can be found, not for later ones.
        False after the timeout."""
        target = self._journal.last_seq if seq is None else seq
        if self._reached >= target:
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((target, future))
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiters.remove((target, future))
        return True

    async def synced(self, timeout: float) -> bool:
        """Wait until all current entries of the journal are stored and synced to disk. False after the timeout."""
        if not await self.drained(timeout):
            return False
        if not self._is_dirty:
            return True
        self._clean.clear()
        self._is_sync_requested = True
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                await self._clean.wait()
        except TimeoutError:
            return False
        return True

    async def _work(self) -> None:
        try:
            await self._wait_for_work()
            await self._drain()
            self._pauses.reset()
            await self._sync_and_maintain()
        except _FAILURES as error:
            seconds = self._pauses.next()
            self._note_rest(failure_name(error), str(error), seconds)
            await asyncio.sleep(seconds)

    async def _sync_and_maintain(self) -> None:
        """Sync stored rows and maintain the tables at intervals, also during a long backlog."""
        now = time.monotonic()
        if not self._is_dirty or (now < self._next_sync and not self._is_sync_requested):
            return
        self._next_sync = now + _SYNC_EVERY
        await self._sync()
        if now >= self._next_maintenance:
            self._next_maintenance = now + _MAINTAIN_EVERY
            self._maintenance.start()

    async def _maintain(self) -> None:
        """Maintain the tables, concurrently with writing: a large one takes seconds."""
        try:
            async for _ in self._store.maintain():
                await asyncio.to_thread(process.trim)  # each part leaves some megabytes of free heap
        except StorageError as error:
            _log.warning("maintenance_failed", extra={"cause": str(error)})

    async def _wait_for_work(self) -> None:
        """Wait until the journal has new entries, a failed entry is due, or files are to be synced."""
        limits = [_SYNC_EVERY] if self._is_dirty else []
        due = await self._journal.next_due()
        if due is not None:
            limits.append(max(0.0, due - time.time()))
        try:
            async with asyncio.timeout(min(limits, default=None)):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._batch_window)

    async def _drain(self) -> None:
        """Store all waiting entries that are due."""
        while True:
            self._wake.clear()
            newest = self._journal.last_seq
            entries = await self._journal.waiting(_BATCH)
            self._telemetry.backlog.set(self._journal.backlog_entries)
            self._telemetry.aside.set(self._journal.aside_entries)
            if not entries:
                self._advance(newest)
                return
            try:
                await self._store_entries(entries)
            except Exception as error:  # noqa: BLE001 — one bad entry must not stop the others
                self._telemetry.drain_failures.labels(failure_name(error)).inc()
                await self._store_one_by_one(entries)
            self._advance(entries[-1].seq)
            await self._sync_and_maintain()

    def _advance(self, seq: int) -> None:
        self._reached = max(self._reached, seq)
        for target, future in self._waiters:
            if target <= self._reached and not future.done():
                future.set_result(None)

    async def _store_one_by_one(self, entries: Sequence[JournalEntry]) -> None:
        """Store the entries that can be stored and mark the others failed. Raises the error of an outage."""
        failed: list[JournalEntry] = []
        has_passed = False
        for entry in entries:
            try:
                await self._store_entries([entry], may_exist=True)
                has_passed = True
            except Exception as error:
                _log.warning("record_not_stored", extra={"seq": entry.seq, "cause": failure_name(error)})
                failed.append(entry)
                if isinstance(error, StorageError) and error.is_outage:
                    raise  # an outage, not a poison record: stop here
                if not has_passed:
                    await self._check_parts(entry.record.scope)
                    has_passed = True
        dead_letters = await self._journal.mark_failed(failed)
        if dead_letters:
            _log.error("records_dead_lettered", extra={"count": dead_letters})

    async def _check_parts(self, scope: str) -> None:
        """Check the store and the embedder. Raises StorageError or EmbedFailed if one that this scope needs is out."""
        await self._store.probe(scope)
        await self._embedders.current.embed_documents([_PROBE])

    async def _store_entries(self, entries: Sequence[JournalEntry], *, may_exist: bool = False) -> None:
        rows = await self._build_rows(entries)
        if may_exist or any(entry.is_replay for entry in entries):
            rows = await self._store.put(rows)
        else:
            await self._store.add(rows)
        self._is_dirty = True
        self._journal.mark_stored(entries)
        await self._on_rows(rows)
        self._telemetry.drained.inc(len(rows))

    async def _build_rows(self, entries: Sequence[JournalEntry]) -> list[Row]:
        records = [entry.record for entry in entries]
        vectors = await self._embed_records(records)
        all_measures = await asyncio.to_thread(lambda: [measure(record, self._count) for record in records])
        return [
            Row(
                record=record,
                vector=vector,
                embedder=name,
                terms=measures.terms,
                tokens=measures.tokens,
                seq=entry.seq,
                form=measures.form,
                worth=measures.worth,
            )
            for entry, record, (name, vector), measures in zip(entries, records, vectors, all_measures, strict=True)
        ]

    async def _embed_records(self, records: Sequence[Record]) -> "list[tuple[str, Vectors | None]]":
        """The vector of each record with the name of its embedder, which is the one of its bucket."""
        # a deletion has no text, and embedders reject empty texts
        by_id: dict[str, tuple[str, Vectors | None]] = {
            record.id: ("", None) for record in records if not record.text.strip()
        }
        by_id |= self._journal.vectors.find(records, self._store.format_of)
        with_text = [record for record in records if record.id not in by_id]
        names = {record.id: self._store.format_of(record.scope).embedder for record in with_text}
        for name in set(names.values()):
            embedder = self._embedders.named(name)
            members = [record for record in with_text if names[record.id] == name]
            if embedder is None:  # of an earlier configuration: lexical search only, until rebuilt
                by_id |= {record.id: ("", None) for record in members}
                continue
            vectors = await embedder.embed_documents([record.text for record in members])
            by_id |= {record.id: (name, vector) for record, vector in zip(members, vectors, strict=True)}
        return [by_id[record.id] for record in records]

    async def _sync(self) -> None:
        await self._store.sync()
        await self._journal.mark_synced()
        self._is_dirty = self._is_sync_requested = False
        self._clean.set()

    def _note_rest(self, cause: str, detail: str, seconds: float) -> None:
        _log.warning("writer_backoff", extra={"cause": cause, "detail": detail, "seconds": seconds})
        self._wake.set()  # to be seen after the pause
