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
    """Journal entries with their rows, in the order of the journal. They are due when there are `batch` of them, when
    one has waited for `window` seconds, or when there are `most`."""

    def __init__(self, *, window: float, batch: int, most: int) -> None:
        self._window = window
        self._batch = batch
        self._most = most
        self._pairs: deque[Pending] = deque()
        self._oldest_at = 0.0

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def is_full(self) -> bool:
        return len(self._pairs) >= self._most

    @property
    def due_at(self) -> float:
        """When the oldest row will have waited long enough (of `time.monotonic`); there must be one."""
        return self._oldest_at + self._window

    @property
    def first_seq(self) -> int:
        """The journal number of the first one; there must be one."""
        return self._pairs[0][0].seq

    @property
    def last_seq(self) -> int:
        """The journal number of the last one; there must be one."""
        return self._pairs[-1][0].seq

    def all(self) -> list[Pending]:
        """All rows, in the order of the journal."""
        return list(self._pairs)

    def due_rows(self, up_to: int) -> list[Pending]:
        """The first rows, at most `batch`, if they are to be stored now; else none. Rows up to the journal number
        `up_to` are due at once."""
        if not self._pairs:
            return []
        is_due = len(self._pairs) >= self._batch or self.is_full
        is_due = is_due or self.first_seq <= up_to or self.due_at <= time.monotonic()
        return list(islice(self._pairs, self._batch)) if is_due else []

    def add(self, entries: Sequence[JournalEntry], rows: Sequence[Row]) -> None:
        if not self._pairs:
            self._oldest_at = time.monotonic()
        self._pairs.extend(zip(entries, rows, strict=True))

    def remove(self, seqs: Collection[int]) -> None:
        """Remove those with these journal numbers, mostly the first ones."""
        count = len(self._pairs)
        while self._pairs and self.first_seq in seqs:
            self._pairs.popleft()
        if any(entry.seq in seqs for entry, _ in self._pairs):
            self._pairs = deque(pair for pair in self._pairs if pair[0].seq not in seqs)
        if len(self._pairs) < count:
            self._oldest_at = time.monotonic()
