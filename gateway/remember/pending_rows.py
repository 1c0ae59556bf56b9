"""The rows that are searchable, and that the table of all memories does not have yet."""

import heapq
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

from gateway.storage.rows import Row
from gateway.storage.values import JournalEntry

__all__ = ["Pending", "PendingRows"]

Pending = tuple[JournalEntry, Row]


@dataclass(slots=True)
class _Group:
    oldest_at: float
    pairs: deque[Pending] = field(default_factory=deque)

    @property
    def first_seq(self) -> int:
        return self.pairs[0][0].seq


class PendingRows:
    """Journal entries with their rows, in the order of the journal, in groups that are stored one at a time.

    A group is stored when it has `batch` rows, when one of them has waited for `window` seconds, or when it is the
    largest and there are `most` rows in all. `group_of`: the group of a scope's rows, for a table where a write costs
    the same for one row as for many of a group; without it, all rows are one group.
    """

    def __init__(self, *, window: float, batch: int, most: int, group_of: Callable[[str], int] | None = None) -> None:
        self._window = window
        self._batch = batch
        self._most = most
        self._group_of = group_of
        self._groups: dict[int, _Group] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        return self._count >= self._most

    @property
    def due_at(self) -> float:
        """When the oldest row will have waited long enough (of `time.monotonic`); there must be one."""
        return min(group.oldest_at for group in self._groups.values()) + self._window

    @property
    def first_seq(self) -> int:
        """The journal number of the first one; there must be one."""
        return min(group.first_seq for group in self._groups.values())

    @property
    def last_seq(self) -> int:
        """The journal number of the last one; there must be one."""
        return max(group.pairs[-1][0].seq for group in self._groups.values())

    def all(self) -> list[Pending]:
        """All rows, in the order of the journal."""
        return list(heapq.merge(*(group.pairs for group in self._groups.values()), key=lambda pair: pair[0].seq))

    def due_rows(self, up_to: int) -> list[Pending]:
        """The first rows of a group that is to be stored now, at most `batch`; empty if there is none. A group with a
        row up to the journal number `up_to` is due at once."""
        before = time.monotonic() - self._window
        due = (
            group
            for group in self._groups.values()
            if len(group.pairs) >= self._batch or group.first_seq <= up_to or group.oldest_at <= before
        )
        group = next(due, None)
        if group is None and self.is_full:
            group = max(self._groups.values(), key=lambda group: len(group.pairs))
        return [] if group is None else list(islice(group.pairs, self._batch))

    def add(self, entries: Sequence[JournalEntry], rows: Sequence[Row]) -> None:
        now = time.monotonic()
        for entry, row in zip(entries, rows, strict=True):
            number = 0 if self._group_of is None else self._group_of(row.record.scope)
            group = self._groups.get(number)
            if group is None:
                group = self._groups[number] = _Group(now)
            group.pairs.append((entry, row))
        self._count += len(rows)

    def remove(self, seqs: Collection[int]) -> None:
        """Remove those with these journal numbers, mostly the first ones of a group."""
        for number, group in list(self._groups.items()):
            size = len(group.pairs)
            self._remove_from(group, seqs)
            if len(group.pairs) < size:
                self._count -= size - len(group.pairs)
                group.oldest_at = time.monotonic()
            if not group.pairs:
                del self._groups[number]

    @staticmethod
    def _remove_from(group: _Group, seqs: Collection[int]) -> None:
        while group.pairs and group.first_seq in seqs:
            group.pairs.popleft()
        if any(entry.seq in seqs for entry, _ in group.pairs):
            group.pairs = deque(pair for pair in group.pairs if pair[0].seq not in seqs)
