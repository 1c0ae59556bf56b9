"""Tries the entries of a failed batch one by one.

If some succeed, or store and embedder prove to work, the others are poison records: they are retried later, and become
dead letters after five tries. Otherwise it is an outage: no try is counted.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from gateway.remember.row_builder import RowBuilder
from gateway.storage.errors import LeaseLost, StorageError, failure_name
from gateway.storage.protocols import MemoryTable, RecordLog
from gateway.storage.values import JournalEntry

__all__ = ["FailedBatch"]

_log = logging.getLogger("gateway.writer")


class FailedBatch:
    """Finds the entries of a batch that cannot be stored, and counts a failed try of each."""

    def __init__(self, journal: RecordLog, store: MemoryTable, builder: RowBuilder) -> None:
        self._journal = journal
        self._store = store
        self._builder = builder

    async def try_each(
        self, entries: Sequence[JournalEntry], action: Callable[[JournalEntry], Awaitable[None]]
    ) -> list[JournalEntry]:
        """Do an action with each entry, and mark those that fail. Returns these. Raises LeaseLost, and the error of an
        outage."""
        failed: list[JournalEntry] = []
        are_parts_working = False
        for entry in entries:
            try:
                await action(entry)
            except LeaseLost:
                raise
            except Exception as error:
                _log.warning("record_not_stored", extra={"seq": entry.seq, "cause": failure_name(error)})
                if isinstance(error, StorageError) and error.is_outage:
                    raise  # not a poison record
                failed.append(entry)
                if not are_parts_working:
                    await self._check_parts(entry.record.scope)
            are_parts_working = True
        if failed:
            dead_letters = await self._journal.mark_failed(failed)
            if dead_letters:
                _log.error("records_dead_lettered", extra={"count": dead_letters})
        return failed

    async def _check_parts(self, scope: str) -> None:
        """Check the store and the embedder. Raises StorageError or EmbedFailed if one that this scope needs is out."""
        await self._store.probe(scope)
        await self._builder.probe()
