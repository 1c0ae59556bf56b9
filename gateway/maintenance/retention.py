"""Retention: deletes memories past their maximum age, and the oldest ones of cubes over their limit.

A background sweep runs at intervals, some hundreds of records at a time. Expired memories are deleted as by hand: at
once in recall. Some time later, texts of all deleted memories also leave the files: their tables are rewritten.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.config import RetentionConfig
from gateway.errors import MemoryUnavailable
from gateway.memory.record import Record
from gateway.storage.errors import StorageError
from gateway.storage.protocols import MemoryTable
from gateway.telemetry import Telemetry

__all__ = ["Retention"]

_log = logging.getLogger("gateway.retention")
_BATCH_MEMORIES = 500
_DAY = 86_400.0


class Retention:
    """The retention worker. `expire` deletes records; `scrub` removes deleted texts from the journal's files."""

    def __init__(
        self,
        store: MemoryTable,
        config: RetentionConfig,
        telemetry: Telemetry,
        *,
        expire: Callable[[Sequence[Record]], Awaitable[int]],
        scrub: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._config = config
        self._telemetry = telemetry
        self._expire = expire
        self._scrub = scrub
        self._interval = config.every_minutes * 60
        self._worker = RepeatingWorker("retention", self._work, _log, "retention_fault", pauses=Backoff(self._interval))

    def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    async def _work(self) -> None:
        try:
            expired = await self.sweep(time.time())
            await self.purge(time.time())
            if expired:
                _log.info("memories_expired", extra={"count": expired})
        except (StorageError, MemoryUnavailable) as error:
            _log.warning("retention_deferred", extra={"cause": str(error)})
        await asyncio.sleep(self._interval)

    async def sweep(self, now: float) -> int:
        """Delete all memories over their limit. Returns how many. Raises StorageError or MemoryUnavailable."""
        expired = 0
        for kind, days in self._config.max_age_days.items():
            while records := await self._store.older(kind, now - days * _DAY, _BATCH_MEMORIES):
                expired += await self._expire_counted(records)
        if self._config.max_per_cube is not None:
            while records := await self._store.crowded(self._config.max_per_cube, _BATCH_MEMORIES):
                expired += await self._expire_counted(records)
        return expired

    async def purge(self, now: float) -> int:
        """Rewrite the tables with memories deleted or changed long enough ago. Returns how many parts. Raises
        StorageError."""
        rewritten = await self._store.purge_older(now - self._config.purge_after_hours * 3600)
        await self._scrub()
        return rewritten

    async def _expire_counted(self, records: Sequence[Record]) -> int:
        count = await self._expire(records)
        self._telemetry.bound("remembered", "expired").inc(count)
        return count
