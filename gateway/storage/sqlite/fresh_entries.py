"""New entries of the journal in memory, so that they need not be read back from the file."""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final

from gateway.storage.values import JournalEntry

__all__ = ["FreshEntries"]

_MAX_ENTRIES: Final = 4_096
_MAX_BYTES: Final = 16 * 2**20


class FreshEntries:
    """The newest entries that recall does not have. `is_complete`: no older entry waits in the file only; `losses`
    counts how often entries were dropped."""

    def __init__(self) -> None:
        self.is_complete = False
        self.losses = 0
        self._entries: deque[JournalEntry] = deque()
        self._bytes = 0
        self._last_seq = 0  # the newest one that was in here, or was removed

    def first(self, limit: int) -> list[JournalEntry]:
        """The oldest `limit` entries."""
        return list(islice(self._entries, limit))

    def add(self, entries: Iterable[JournalEntry]) -> None:
        """Add entries newer than those in here. If there are too many, all are dropped and must be read again."""
        for entry in entries:
            if entry.seq > self._last_seq:
                self._entries.append(entry)
                self._bytes += entry.size
                self._last_seq = entry.seq
        if len(self._entries) > _MAX_ENTRIES or self._bytes > _MAX_BYTES:
            self.clear()

    def complete(self, older: Sequence[JournalEntry]) -> None:
        """All older entries that wait were read: put them before those in here."""
        last = older[-1].seq if older else 0
        self._entries = deque([*older, *(entry for entry in self._entries if entry.seq > last)])
        self._bytes = sum(entry.size for entry in self._entries)
        self._last_seq = max(self._last_seq, last)
        self.is_complete = True

    def remove(self, seqs: Collection[int]) -> None:
        """Remove entries, which mostly are the first ones; those that were read from the file are not added later."""
        self._last_seq = max(self._last_seq, *seqs, 0)
        while self._entries and self._entries[0].seq in seqs:
            self._bytes -= self._entries.popleft().size
        if any(entry.seq in seqs for entry in self._entries):
            self.clear()

    def clear(self) -> None:
        """Drop all entries; they must be read from the file."""
        self._entries.clear()
        self._bytes = 0
        self.is_complete = False
        self.losses += 1
