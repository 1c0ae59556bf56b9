"""Turns that the journal did not take: tried again until it does, some of them, while the process lives.

Their clients have had their answers; nothing was acknowledged to be kept but what `x-memory-status` says. So what does
not fit here is given up, and counted.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.errors import PluginUnavailable
from gateway.store.journal import JournalFailed
from gateway.telemetry import Telemetry
from gateway.turn import Record, Turn

__all__ = ["Late"]

_log = logging.getLogger("gateway.remember")
_MOST = 16 * 2**20  # characters
_PAUSE = 1.0


class Late:
    """`commit` is what failed, and is tried again."""

    def __init__(self, commit: Callable[[Turn, Sequence[Record]], Awaitable[Any]], telemetry: Telemetry) -> None:
        self._commit = commit
        self._telemetry = telemetry
        self._waiting: deque[tuple[Turn, Sequence[Record], int]] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def put(self, turn: Turn, records: Sequence[Record]) -> None:
        """Keep these for later; the oldest go where there are too many."""
        size = sum(len(record.text) for record in records) + 1_000
        self._telemetry.bound("remembered", "late").inc(len(records))
        self._waiting.append((turn, records, size))
        self._size += size
        while self._size > _MOST:
            _, lost, size = self._waiting.popleft()
            self._size -= size
            self._telemetry.bound("remembered", "failed").inc(len(lost))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="late-turns")

    async def stop(self) -> None:
        """Try once more, and give up what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)
        while self._waiting and await self._tried():
            pass
        if self._waiting:
            lost = sum(len(records) for _, records, _ in self._waiting)
            self._telemetry.bound("remembered", "failed").inc(lost)
            _log.error("turns_not_remembered", extra={"count": len(self._waiting)})

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(_PAUSE)
            while self._waiting and await self._tried():
                pass

    async def _tried(self) -> bool:
        """True if the oldest one is dealt with."""
        turn, records, size = self._waiting[0]
        try:
            await self._commit(turn, records)
        except (JournalFailed, TimeoutError):
            return False
        except PluginUnavailable as error:
            self._telemetry.bound("remembered", "failed").inc(len(records))
            _log.error("turn_not_remembered", extra={"turn": turn.id, "cause": str(error)})
        if self._waiting and self._waiting[0][0] is turn:
            self._waiting.popleft()
            self._size -= size
        return True
