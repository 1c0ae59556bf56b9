"""Making all memories anew for another embedder, or for other search terms, while the gateway serves.

Bucket by bucket: what is done stays done, so a job that was broken off goes on where it was, at the bucket's begin.
Until a bucket is done its memories are found by the vectors of the embedder that made them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gateway.remember.measure import measure
from gateway.store.embed import Embedders, EmbedFailed
from gateway.store.loaded import Row
from gateway.store.memories import MemoryStore, StoreFailed

__all__ = ["Progress", "Reindexer"]

_log = logging.getLogger("gateway.reindex")
_PROBE = "Is anybody there?"
_AT_ONCE = 256  # rows
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`state`: done (nothing to do), needed, running. `rows` of `of` are made anew; `reason` is the last failure."""

    state: str
    rows: int = 0
    of: int = 0
    reason: str = ""


class Reindexer:
    """`on_rebuilt` is told the scopes of each bucket that is done."""

    def __init__(
        self,
        store: MemoryStore,
        embedders: Embedders,
        count: Callable[[str], int],
        on_rebuilt: Callable[[Iterable[str]], None],
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._count = count
        self._on_rebuilt = on_rebuilt
        self._task: asyncio.Task[None] | None = None
        self._rows = self._of = 0
        self._reason = ""

    @property
    def progress(self) -> Progress:
        if self._task is not None and not self._task.done():
            return Progress(state="running", rows=self._rows, of=self._of, reason=self._reason)
        state = "needed" if self._store.outdated() else "done"
        return Progress(state=state, rows=self._rows, of=self._of, reason=self._reason)

    @property
    def is_free(self) -> bool:
        """True if no vector has to be made anew: only search terms are of an earlier version."""
        name = self._embedders.current.name
        return all(made.embedder == name for made in self._store.outdated().values())

    def start(self) -> None:
        """Begin, unless it runs already or there is nothing to do."""
        if self._store.outdated() and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="reindex")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait([self._task], timeout=10)
            self._task = None

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        self._rows = 0
        while outdated := self._store.outdated():
            self._of = self._rows
            with contextlib.suppress(StoreFailed):
                self._of += sum([await self._store.count(bucket) for bucket in outdated])
            failures = [reason for bucket in outdated if (reason := await self._tried(bucket))]
            self._reason = failures[0] if failures else ""
            if failures:
                _log.warning("reindex_rests", extra={"cause": failures[0], "seconds": pause})
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
        _log.info("reindex_done", extra={"rows": self._rows})

    async def _tried(self, bucket: int) -> str:
        """Make a bucket anew. Returns why not, or an empty string."""
        before = self._rows
        try:
            await self._embedders.current.embed_documents([_PROBE])
            self._on_rebuilt(await self._store.rebuild(bucket, self._store.made, self._prepare))
        except (StoreFailed, EmbedFailed) as error:
            self._rows = before
            return str(error)
        except Exception as error:  # noqa: BLE001 — a worker must outlive any fault; it is logged whole
            _log.exception("reindex_fault")
            self._rows = before
            return type(error).__name__
        return ""

    async def _prepare(self, rows: list[Row]) -> list[Row]:
        made: list[Row] = []
        for begin in range(0, len(rows), _AT_ONCE):
            made += await self._made(rows[begin : begin + _AT_ONCE])
        return made

    async def _made(self, rows: list[Row]) -> list[Row]:
        embedder = self._embedders.current
        missing = [row for row in rows if row.embedder != embedder.name or row.vector is None]
        vectors = await embedder.embed_documents([row.record.text for row in missing])
        by_id = {row.record.id: vector for row, vector in zip(missing, vectors, strict=True)}

        def finish() -> list[Row]:
            measured = [measure(row.record, self._count) for row in rows]
            return [
                replace(
                    row,
                    vector=by_id.get(row.record.id, row.vector),
                    embedder=embedder.name,
                    terms=measures.terms,
                    tokens=measures.tokens,
                    form=measures.form,
                    worth=measures.worth,
                )
                for row, measures in zip(rows, measured, strict=True)
            ]

        finished = await asyncio.to_thread(finish)
        self._rows += len(rows)
        return finished
