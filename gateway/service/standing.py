"""Archives the oldest standing preferences of a scope that has more of them than can be in force."""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.concurrency.worker import Worker
from gateway.errors import MemoryUnavailable
from gateway.memory.kinds import kind_of
from gateway.memory.versions import archive_on_request
from gateway.service.memories import MemoryService
from gateway.storage.rows import Row

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets

__all__ = ["StandingLimit"]

_log = logging.getLogger("gateway.recall")


class StandingLimit:
    """Background worker that trims the standing preferences of scopes in RAM; `note` tells it of stored rows."""

    def __init__(self, memory_service: MemoryService, sets: "WorkingSets") -> None:
        self._memory_service = memory_service
        self._sets = sets
        self._scopes: set[str] = set()
        self._worker = Worker("standing-limit", self._work, _log, "standing_limit_fault")

    def note(self, rows: Sequence[Row]) -> None:
        """Check the scopes of new preferences in the background."""
        self._scopes |= {row.record.scope for row in rows if kind_of(row.record.kind).is_of_profile}
        if self._scopes:
            self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    async def _work(self) -> None:
        while self._scopes:
            scope = self._scopes.pop()
            try:
                records = await self._sets.beyond_cap(scope)
                if records:
                    now = time.time()
                    await self._memory_service.revise([archive_on_request(record, now) for record in records])
                    _log.info("standing_preferences_archived", extra={"count": len(records)})
            except MemoryUnavailable as error:
                _log.warning("standing_preferences_not_archived", extra={"cause": str(error)})
            except Exception:  # noqa: BLE001 — one scope must not stop the others; it is logged whole
                _log.exception("standing_limit_fault")
