"""Archives the oldest standing preferences of a scope that has more of them than can be in force."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.errors import MemoryUnavailable
from gateway.memory.kinds import kind_of
from gateway.memory.versions import archive_on_request
from gateway.service.memories import Library
from gateway.storage.rows import Row

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets

__all__ = ["StandingLimit"]

_log = logging.getLogger("gateway.recall")


class StandingLimit:
    """Background worker that trims the standing preferences of scopes in RAM; `note` tells it of stored rows."""

    def __init__(self, library: Library, sets: "WorkingSets") -> None:
        self._library = library
        self._sets = sets
        self._scopes: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def note(self, rows: Sequence[Row]) -> None:
        """Check the scopes of new preferences in the background."""
        self._scopes |= {row.record.scope for row in rows if kind_of(row.record.kind).is_of_profile}
        if self._scopes and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work(), name="standing-limit")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)

    async def _work(self) -> None:
        while self._scopes:
            scope = self._scopes.pop()
            try:
                records = await self._sets.beyond_cap(scope)
                if records:
                    now = time.time()
                    await self._library.revise([archive_on_request(record, now) for record in records])
                    _log.info("standing_preferences_archived", extra={"count": len(records)})
            except MemoryUnavailable as error:
                _log.warning("standing_preferences_not_archived", extra={"cause": str(error)})
            except Exception:  # noqa: BLE001 — a worker must outlive any fault; it is logged whole
                _log.exception("standing_limit_fault")
