"""Online reindexing: rebuilds all memories for another embedder, or for another version of the search terms.

Buckets are rebuilt one by one and completed ones are kept, so an interrupted job continues at the start of its bucket.
Until a bucket is rebuilt, its memories are found by the vectors of the embedder that it was built with. In a cluster
each gateway rebuilds the buckets that it owns, and one request starts the job in all of them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway import bus_kinds
from gateway.bus import Bus
from gateway.concurrency.worker import Backoff, Worker
from gateway.embedding.embedders import EmbedFailed
from gateway.embedding.kinds import Embedders
from gateway.remember.measure import measure, text_to_embed
from gateway.storage.errors import StorageError
from gateway.storage.protocols import MemoryTable
from gateway.storage.rows import Row, RowFormat

__all__ = ["Progress", "Reindexer"]

_log = logging.getLogger("gateway.reindex")
_PROBE = "Is anybody there?"
_BATCH_ROWS = 256  # rows
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_MAX_SCOPES = 1_000  # in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of reindexing. `state`: done (nothing to do), needed, running. `rows` of `of` are rebuilt by this
    gateway; `reason` is its last failure."""

    state: str
    rows: int = 0
    of: int = 0
    reason: str = ""


class Reindexer:
    """Background job that rebuilds outdated buckets. `on_rebuilt` is called in all gateways with the scopes of each
    rebuilt bucket."""

    def __init__(
        self,
        store: MemoryTable,
        embedders: Embedders,
        count: Callable[[str], int],
        on_rebuilt: Callable[[Iterable[str]], None],
        bus: Bus,
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._count = count
        self._on_rebuilt = on_rebuilt
        self._worker = Worker("reindex", self._run, _log, "reindex_fault", stop_timeout=10)
        self._rows = self._of = 0
        self._reason = ""
        self._is_requested = False
        self._bus = bus
        bus.on(bus_kinds.REINDEX, lambda _: self._note_request())
        bus.on(bus_kinds.REINDEXED, on_rebuilt)

    @property
    def progress(self) -> Progress:
        if self._worker.is_running:
            return Progress(state="running", rows=self._rows, of=self._of, reason=self._reason)
        state = "needed" if self._outdated() else "done"
        return Progress(state=state, rows=self._rows, of=self._of, reason=self._reason)

    @property
    def is_free(self) -> bool:
        """True if no text needs embedding: only the search terms are of an earlier version."""
        name = self._embedders.current.name
        return all(row_format.embedder == name for row_format in self._outdated().values())

    async def overall_progress(self) -> Progress:
        """The progress, with the state of all gateways."""
        own = self.progress
        if own.state != "done" or not self._bus.is_shared:
            return own
        with contextlib.suppress(StorageError):
            await self._store.refresh()
        if not self._store.outdated():
            return own
        return replace(own, state="running" if self._is_requested else "needed")

    def request(self) -> None:
        """Start the job in all gateways of a cluster."""
        self._note_request()
        self._bus.publish(bus_kinds.REINDEX, None)

    def start(self) -> None:
        """Start the job in this gateway, unless it is running or there is nothing to do."""
        if self._outdated():
            self._worker.start()

    def resume(self) -> bool:
        """Start the job if it was requested or embeds no text. False if it is to be requested first."""
        if self._is_requested or self.is_free:
            self.start()
            return True
        return False

    def _note_request(self) -> None:
        self._is_requested = True
        self.start()

    async def stop(self) -> None:
        await self._worker.stop()

    def _outdated(self) -> Mapping[int, RowFormat]:
        """The parts that are to be rebuilt, and that this process may rebuild."""
        return {part: made for part, made in self._store.outdated().items() if self._store.owns(part)}

    async def _run(self) -> None:
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._rows = 0
        while outdated := self._outdated():
            self._of = self._rows
            with contextlib.suppress(StorageError):
                self._of += sum([await self._store.count(bucket) for bucket in outdated])
            failures = [reason for bucket in outdated if (reason := await self._rebuild(bucket))]
            self._reason = failures[0] if failures else ""
            if failures:
                pause = pauses.next()
                _log.warning("reindex_backoff", extra={"cause": failures[0], "seconds": pause})
                await asyncio.sleep(pause)
            else:
                pauses.reset()
        _log.info("reindex_done", extra={"rows": self._rows})

    async def _rebuild(self, bucket: int) -> str:
        """Rebuild a bucket. Returns the reason of a failure, or an empty string."""
        previous_rows = self._rows
        try:
            await self._embedders.current.embed_documents([_PROBE])
            scopes = await self._store.rebuild(bucket, self._prepare)
            self._on_rebuilt(scopes)
            for begin in range(0, len(scopes), _MAX_SCOPES):
                self._bus.publish(bus_kinds.REINDEXED, list(scopes[begin : begin + _MAX_SCOPES]))
        except (StorageError, EmbedFailed) as error:
            self._rows = previous_rows
            return str(error)
        except Exception as error:  # noqa: BLE001 — one bucket must not stop the others; it is logged whole
            _log.exception("reindex_fault")
            self._rows = previous_rows
            return type(error).__name__
        return ""

    async def _prepare(self, rows: list[Row]) -> list[Row]:
        rebuilt: list[Row] = []
        for begin in range(0, len(rows), _BATCH_ROWS):
            rebuilt += await self._rebuild_rows(rows[begin : begin + _BATCH_ROWS])
        return rebuilt

    async def _rebuild_rows(self, rows: list[Row]) -> list[Row]:
        embedder = self._embedders.current
        vectors = {
            row.record.id: row.vector for row in rows if row.embedder == embedder.name and row.vector is not None
        }
        all_measures = await asyncio.to_thread(lambda: [measure(row.record, self._count) for row in rows])
        texts = {
            row.record.id: text
            for row, measures in zip(rows, all_measures, strict=True)
            if row.record.id not in vectors and (text := text_to_embed(row.record, measures))
        }
        vectors |= zip(texts, await embedder.embed_documents(list(texts.values())), strict=True)

        def finish() -> list[Row]:
            return [
                replace(
                    row,
                    vector=vectors.get(row.record.id),
                    embedder=embedder.name if row.record.id in vectors else "",
                    terms=measures.terms,
                    tokens=measures.tokens,
                    form=measures.form,
                    worth=measures.worth,
                )
                for row, measures in zip(rows, all_measures, strict=True)
            ]

        rebuilt = await asyncio.to_thread(finish)
        self._rows += len(rows)
        return rebuilt
