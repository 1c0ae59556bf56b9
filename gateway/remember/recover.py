"""After a start: what the store should have and has not, it gets again from the journal.

A power cut, a table that had to go back to an earlier version, or a copy of a data folder that was made while it was
written to: the newest memories may be missing. The journal keeps the newest texts for that.
"""

import logging

from gateway.store.journal import Entry, Journal
from gateway.store.memories import MemoryStore

__all__ = ["recover"]

_log = logging.getLogger("gateway.writer")


async def recover(journal: Journal, store: MemoryStore) -> int:
    """Let entries that the store has lost wait again. Returns how many. Raises JournalFailed or StoreFailed."""
    entries = await journal.kept()
    held = await store.versions([entry.record for entry in entries])
    lost = [entry for entry in entries if _is_lost(entry, held)]
    if lost:
        await journal.requeue(lost)
        _log.warning("lost_records_stored_again", extra={"count": len(lost), "looked_at": len(entries)})
    return len(lost)


def _is_lost(entry: Entry, held: dict[str, tuple[int, str]]) -> bool:
    record = entry.record
    if record.id not in held:
        return record.status != "deleted"  # a deleted one that is not there is as it should be
    return held[record.id][0] < record.version
