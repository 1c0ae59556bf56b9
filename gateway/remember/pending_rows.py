"""The rows that are searchable, and that the table of all memories does not have yet."""

import time
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice

from gateway.storage.rows import Row
from gateway.storage.values import JournalEntry

__all__ = ["Pending", "PendingRows"]

Pending = tuple[JournalEntry, Row]


class PendingRows:
    """Journal entries with their rows, in the order of the journal. `oldest_at`: when the first one was added, or
    became the first (of `time.monotonic`)."""

    def __init__(self) -> None:
        self.oldest_at = 0.0
        self._pairs: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def first_seq(self) -> int:
        """The journal number of the first one; there must be one."""
        return self._pairs[0][0].seq

    @property
    def last_seq(self) -> int:
        """The journal number of the last one; there must be one."""
        return self._pairs[-1][0].seq

    def first(self, limit: int | None = None) -> list[Pending]:
        """The first `limit` ones, or all."""
        return list(islice(self._pairs, limit))

    def add(self, entries: Sequence[JournalEntry], rows: Sequence[Row]) -> None:
        if not self._pairs:
            self.oldest_at = time.monotonic()
        self._pairs.extend(zip(entries, rows, strict=True))

    def remove(self, seqs: Collection[int]) -> None:
        """Remove those with these journal numbers, mostly the first ones."""
        while self._pairs and self._pairs[0][0].seq in seqs:
            self._pairs.popleft()
        if any(entry.seq in seqs for entry, _ in self._pairs):
            self._pairs = deque(pair for pair in self._pairs if pair[0].seq not in seqs)
        self.oldest_at = time.monotonic()
