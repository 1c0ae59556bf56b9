"""The writer: one worker that drains the journal into the store, in order, in batches.

Of a batch that fails the entries are tried one by one. Where some pass, or store and embedder prove to work, the others
are at fault: they are due again later, and aside after five tries. Else something is out: nobody is blamed, and the
worker rests. Nothing leaves the journal before the store's files are synced.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from gateway import heap
from gateway.remember.measure import measure
from gateway.store.embed import Embedders, EmbedFailed
from gateway.store.journal import Entry, Journal, JournalFailed
from gateway.store.loaded import Row
from gateway.store.memories import MemoryStore, StoreFailed
from gateway.telemetry import Telemetry
from gateway.turn import Record

if TYPE_CHECKING:
    from gateway.store.embed import Vectors

__all__ = ["Writer"]

_log = logging.getLogger("gateway.writer")
_BATCH = 256
_SYNC_EVERY = 3.0  # seconds
_MAINTAIN_EVERY = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_LAST_SYNC = 5.0
_PROBE = "Is anybody there?"
_FAILURES = (StoreFailed, EmbedFailed, JournalFailed)

OnRows = Callable[[Sequence[Row]], Awaitable[None]]


class Writer:
    """`count` counts tokens; `on_rows` is told of each batch that the store has."""

    def __init__(
        self,
        journal: Journal,
        store: MemoryStore,
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
        self._reached = 0  # all entries up to this number were dealt with
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._maintenance: asyncio.Task[None] | None = None
        self._is_dirty = False
        self._is_wanted = False  # somebody waits for the sync
        self._next_sync = self._next_maintenance = 0.0
        self._clean = asyncio.Event()

    def wake(self) -> None:
        """The journal has something new."""
        self._wake.set()

    async def start(self) -> None:
        """Begin with what earlier processes left."""
        self.wake()
        self._task = asyncio.create_task(self._work(), name="writer")

    async def stop(self) -> None:
        tasks = [task for task in (self._task, self._maintenance) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        self._task = self._maintenance = None
        if self._is_dirty:  # so that the next start has nothing to store again
            with contextlib.suppress(*_FAILURES, TimeoutError):
                async with asyncio.timeout(_LAST_SYNC):
                    await self._sync()

    async def drained(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until all that is in the journal now (or up to a number) can be found; what comes meanwhile is not
        waited for. False if it took longer."""
        wanted = self._journal.last_seq if seq is None else seq
        if self._reached >= wanted:
            return True
        reached = asyncio.get_running_loop().create_future()
        self._waiters.append((wanted, reached))
        try:
            async with asyncio.timeout(timeout):
                await reached
        except TimeoutError:
            return False
        finally:
            self._waiters.remove((wanted, reached))
        return True

    async def synced(self, timeout: float) -> bool:
        """Wait until all that is in the journal now is stored and on the disk. False if it took longer."""
        if not await self.drained(timeout):
            return False
        if not self._is_dirty:
            return True
        self._clean.clear()
        self._is_wanted = True
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                await self._clean.wait()
        except TimeoutError:
            return False
        return True

    async def _work(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._wait_for_work()
                await self._drain()
                pause = _FIRST_PAUSE
                await self._tidy()
            except _FAILURES as error:
                pause = await self._rest(pause, type(error).__name__, str(error))
            except Exception as error:  # noqa: BLE001 — the worker must outlive any fault; it is logged whole and counted
                _log.exception("writer_fault")
                pause = await self._rest(pause, "fault", type(error).__name__)

    async def _tidy(self) -> None:
        """Now and then, also in the midst of a long backlog: sync what was stored, and put the tables in order."""
        now = time.monotonic()
        if not self._is_dirty or (now < self._next_sync and not self._is_wanted):
            return
        self._next_sync = now + _SYNC_EVERY
        await self._sync()
        if now >= self._next_maintenance:
            self._next_maintenance = now + _MAINTAIN_EVERY
            self._maintain()

    def _maintain(self) -> None:
        """Put the tables in order beside the writing: a large one takes seconds, and nobody waits for it."""
        if self._maintenance is not None and not self._maintenance.done():
            return

        async def work() -> None:
            try:
                for bucket in self._store.buckets:
                    if await self._store.maintain(bucket):
                        await asyncio.to_thread(heap.trim)  # each leaves some megabytes that nobody needs
            except StoreFailed as error:
                _log.warning("maintenance_failed", extra={"cause": str(error)})
            except Exception:  # noqa: BLE001 — as the worker's own loop
                _log.exception("maintenance_fault")

        self._maintenance = asyncio.create_task(work(), name="maintenance")

    async def _wait_for_work(self) -> None:
        """Until the journal has something new, a failed entry is due, or files are to be synced."""
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
        """Store all that waits and is due."""
        while True:
            self._wake.clear()
            newest = self._journal.last_seq
            entries = await self._journal.waiting(_BATCH)
            self._telemetry.backlog.set(self._journal.backlog_entries)
            self._telemetry.aside.set(self._journal.aside_entries)
            if not entries:
                self._has_reached(newest)
                return
            try:
                await self._store_entries(entries)
            except Exception as error:  # noqa: BLE001 — whatever it is, it must not stop the entries of others
                self._telemetry.drain_failures.labels(type(error).__name__).inc()
                await self._store_one_by_one(entries)
            self._has_reached(entries[-1].seq)
            await self._tidy()

    def _has_reached(self, seq: int) -> None:
        self._reached = max(self._reached, seq)
        for wanted, reached in self._waiters:
            if wanted <= self._reached and not reached.done():
                reached.set_result(None)

    async def _store_one_by_one(self, entries: Sequence[Entry]) -> None:
        """Store what can be stored and blame the rest. Raises what failed if something is out and nobody to blame."""
        failed: list[Entry] = []
        has_passed = False
        for entry in entries:
            try:
                await self._store_entries([entry], may_exist=True)
                has_passed = True
            except Exception as error:
                _log.warning("record_not_stored", extra={"seq": entry.seq, "cause": type(error).__name__})
                failed.append(entry)
                if isinstance(error, StoreFailed) and error.is_outage:
                    raise  # nobody's fault, and the next one's neither
                if not has_passed:
                    await self._check_parts(entry.record.scope)
                    has_passed = True
        given_up = await self._journal.mark_failed(failed)
        if given_up:
            _log.error("records_put_aside", extra={"count": given_up})

    async def _check_parts(self, scope: str) -> None:
        """Raises StoreFailed or EmbedFailed if a part is out that this scope's records need."""
        await self._store.probe(scope)
        await self._embedders.current.embed_documents([_PROBE])

    async def _store_entries(self, entries: Sequence[Entry], *, may_exist: bool = False) -> None:
        rows = await self._rows(entries)
        if may_exist or any(entry.is_replay for entry in entries):
            rows = await self._store.put(rows)
        else:
            await self._store.add(rows)
        self._is_dirty = True
        self._journal.mark_stored(entries)
        await self._on_rows(rows)
        self._telemetry.drained.inc(len(rows))

    async def _rows(self, entries: Sequence[Entry]) -> list[Row]:
        records = [entry.record for entry in entries]
        vectors = await self._vectors(records)
        measured = await asyncio.to_thread(lambda: [measure(record, self._count) for record in records])
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
            for entry, record, (name, vector), measures in zip(entries, records, vectors, measured, strict=True)
        ]

    async def _vectors(self, records: Sequence[Record]) -> "list[tuple[str, Vectors | None]]":
        """The vector of each record with its embedder's name: the one that its bucket is made with."""
        # a deletion has no text, and embedders refuse what has none
        found: dict[str, tuple[str, Vectors | None]] = {one.id: ("", None) for one in records if not one.text.strip()}
        said = [record for record in records if record.id not in found]
        names = {record.id: self._store.made_of(record.scope).embedder for record in said}
        for name in set(names.values()):
            embedder = self._embedders.named(name)
            members = [record for record in said if names[record.id] == name]
            if embedder is None:  # of an earlier configuration: found by words until it is made anew
                found |= {record.id: ("", None) for record in members}
                continue
            vectors = await embedder.embed_documents([record.text for record in members])
            found |= {record.id: (name, vector) for record, vector in zip(members, vectors, strict=True)}
        return [found[record.id] for record in records]

    async def _sync(self) -> None:
        await self._store.sync()
        await self._journal.mark_synced()
        self._is_dirty = self._is_wanted = False
        self._clean.set()

    async def _rest(self, pause: float, cause: str, detail: str) -> float:
        _log.warning("writer_rests", extra={"cause": cause, "detail": detail, "seconds": pause})
        await asyncio.sleep(pause)
        self._wake.set()
        return min(pause * 2, _LONGEST_PAUSE)
