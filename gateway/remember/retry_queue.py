"""In-memory retry queue of turns that the journal did not accept; retried while the process lives.

Their clients already have their answers, and durability was acknowledged only as far as `x-memory-status` says. So
turns that exceed the queue's size are dropped, and counted.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

from gateway.concurrency.worker import Worker
from gateway.errors import PluginUnavailable
from gateway.memory.record import Record
from gateway.storage.errors import StorageError
from gateway.telemetry import Telemetry
from gateway.turn import Turn

__all__ = ["RetryQueue"]

_log = logging.getLogger("gateway.remember")
_MAX_CHARACTERS = 16 * 2**20  # characters
_PAUSE = 1.0
_TURNS_AT_ONCE = 32  # turns that share a commit of the journal


class RetryQueue:
    """The retry queue. `commit` is the call that failed and is retried."""

    def __init__(self, commit: Callable[[Turn, Sequence[Record]], Awaitable[Any]], telemetry: Telemetry) -> None:
        self._commit = commit
        self._telemetry = telemetry
        self._waiting: deque[tuple[Turn, Sequence[Record], int]] = deque()
        self._size = 0
        self._at_once = 1
        self._worker = Worker("late-turns", self._work, _log, "late_turns_fault")

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def put(self, turn: Turn, records: Sequence[Record]) -> None:
        """Queue these for a retry; the oldest ones are dropped if there are too many."""
        size = sum(len(record.text) for record in records) + 1_000
        self._telemetry.bound("remembered", "late").inc(len(records))
        self._waiting.append((turn, records, size))
        self._size += size
        while self._size > _MAX_CHARACTERS:
            _, dropped, size = self._waiting.popleft()
            self._size -= size
            self._telemetry.bound("remembered", "failed").inc(len(dropped))
        self._worker.start()

    async def stop(self) -> None:
        """Retry once more, and drop the rest."""
        await self._worker.stop()
        while self._waiting and await self._retry_oldest():
            pass
        if self._waiting:
            dropped_count = sum(len(records) for _, records, _ in self._waiting)
            self._telemetry.bound("remembered", "failed").inc(dropped_count)
            _log.error("turns_not_remembered", extra={"count": len(self._waiting)})

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(_PAUSE)
            while self._waiting and await self._retry_oldest():
                pass

    async def _retry_oldest(self) -> bool:
        """Retry the oldest turns; after a failure only one, until it succeeds. True if all were stored or dropped."""
        oldest = list(islice(self._waiting, self._at_once))
        done = await asyncio.gather(*(self._retry(turn, records) for turn, records, _ in oldest))
        finished = {id(entry) for entry, is_done in zip(oldest, done, strict=True) if is_done}
        self._waiting = deque(entry for entry in self._waiting if id(entry) not in finished)
        self._size = sum(size for _, _, size in self._waiting)
        self._at_once = _TURNS_AT_ONCE if all(done) else 1
        return all(done)

    async def _retry(self, turn: Turn, records: Sequence[Record]) -> bool:
        """Retry a turn. True if it was stored, or cannot be stored at all."""
        try:
            await self._commit(turn, records)
        except (StorageError, TimeoutError):
            return False
        except PluginUnavailable as error:
            self._telemetry.bound("remembered", "failed").inc(len(records))
            _log.error("turn_not_remembered", extra={"turn": turn.id, "cause": str(error)})
        return True
