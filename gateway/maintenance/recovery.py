"""Recovery after a start: records missing from the store are stored again from the journal.

After a power cut, a table restored to an earlier version, or a copy of a data folder taken during writes, the newest
memories may be missing. The journal keeps the newest texts for that.
"""

import logging

from gateway.storage.protocols import MemoryTable, RecordLog
from gateway.storage.values import JournalEntry

__all__ = ["recover"]

_log = logging.getLogger("gateway.writer")


async def recover(journal: RecordLog, store: MemoryTable) -> int:
    """Queue entries again that the store has lost. Returns how many. Raises StorageError."""
    if store.is_durable:
        return 0
    ids = await journal.retained_ids()
    present = await store.entries_since(min(ids)) if ids else set()
    # a row that was changed since has the number of its change
    entries = await journal.retained({seq for seq, id_ in ids.items() if (seq, id_) not in present})
    versions = await store.versions([entry.record for entry in entries])
    missing = [entry for entry in entries if _is_lost(entry, versions)]
    if missing:
        await journal.requeue(missing)
        _log.warning("lost_records_restored", extra={"count": len(missing), "looked_at": len(ids)})
    return len(missing)


def _is_lost(entry: JournalEntry, versions: dict[str, tuple[int, str]]) -> bool:
    record = entry.record
    if record.id not in versions:
        return record.status != "deleted"  # a deleted record is expected to be absent
    return versions[record.id][0] < record.version
