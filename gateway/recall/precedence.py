"""Ordering constraints between the rows of a working set.

A correction ranks before the memories that it corrects. A fact that the user stated and that is valid ranks before the
messages of the facts that it superseded. A conclusion of a model ranks behind the best of its premises. Records name
ids; these are resolved to row numbers once, and again after each change.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gateway.memory.annotations import RowFlag, flags_of
from gateway.memory.record import Record
from gateway.recall.arrays import Pairs
from gateway.storage.rows import LoadedRows

__all__ = ["OrderingConstraints"]

_Ids = tuple[str, ...]


class _Relations(NamedTuple):
    """The values of a row from which its constraints follow."""

    flags: int
    links: _Ids
    supersedes: _Ids
    is_active: bool
    is_users: bool


class OrderingConstraints:
    """The constraints of one working set, by row number. Archived rows count only with the messages of their facts."""

    def __init__(self) -> None:
        self._corrections: dict[int, _Ids] = {}
        self._conclusions: dict[int, _Ids] = {}
        self._successors: set[int] = set()  # rows that superseded others
        self._sources: dict[int, _Ids] = {}  # the messages that each was extracted from
        self._superseded: dict[int, _Ids] = {}
        self._outranks: Pairs | None = None  # None: not resolved yet
        self._concluded: Pairs | None = None

    def fill(self, loaded: LoadedRows) -> None:
        """Add all rows of loaded tables; there must be no rows yet."""
        self.changed()
        links = loaded.links(RowFlag.EXTRACTED | RowFlag.CORRECTION)
        supersedes = loaded.supersedes()
        rows = np.asarray(sorted({*links, *supersedes}), np.int64)
        if not len(rows):
            return
        flags, authors, statuses = (
            loaded.flags()[rows].tolist(),
            loaded.strings("source", rows),
            loaded.strings("status", rows),
        )
        for row, flag, author, status in zip(rows.tolist(), flags, authors, statuses, strict=True):
            relations = _Relations(
                flags=flag,
                links=links.get(row, ()),
                supersedes=supersedes.get(row, ()),
                is_active=status == "activated",
                is_users=author == "user",
            )
            self._add(row, relations)

    def add(self, row: int, record: Record) -> None:
        self.changed()
        relations = _Relations(
            flags=flags_of(record),
            links=record.links,
            supersedes=record.lineage.supersedes,
            is_active=record.is_active,
            is_users=record.source == "user",
        )
        self._add(row, relations)

    def _add(self, row: int, relations: "_Relations") -> None:
        """Add a row: the one way in, for stored and new rows alike."""
        links = relations.links
        if links and relations.flags & RowFlag.EXTRACTED:
            self._sources[row] = links
            if relations.is_active and not relations.is_users:
                self._conclusions[row] = links
        if relations.supersedes:
            self._superseded[row] = relations.supersedes
            if relations.is_active and row not in self._conclusions:
                self._successors.add(row)
        if relations.is_active and links and relations.flags & RowFlag.CORRECTION:
            self._corrections[row] = links

    def remove(self, row: int) -> None:
        self.changed()
        for constraints in (self._corrections, self._conclusions, self._sources, self._superseded):
            constraints.pop(row, None)
        self._successors.discard(row)

    def changed(self) -> None:
        """Resolve ids again on next use, since rows were added or removed."""
        self._outranks = self._concluded = None

    def is_extracted(self, row: int) -> bool:
        return row in self._sources

    def extracted_rows(self) -> list[int]:
        """The rows of which `is_extracted` is true."""
        return list(self._sources)

    def outranks(self, row_of: Mapping[str, int]) -> Pairs:
        """Shape (m, 2): the first ranks before the second, where both are found."""
        if self._outranks is None:
            outdated = {row: self._find_outdated(row, row_of) for row in self._successors}
            self._outranks = np.concatenate([_pairs(self._corrections, row_of), _pairs(outdated, row_of)])
        return self._outranks

    def conclusions(self, row_of: Mapping[str, int]) -> Pairs:
        """Shape (m, 2): the first was concluded from the second, and never ranks before all of its premises."""
        if self._concluded is None:
            self._concluded = _pairs(self._conclusions, row_of)
        return self._concluded

    def _find_outdated(self, row: int, row_of: Mapping[str, int]) -> list[str]:
        """The messages of all rows that this one superseded, directly or not, without its own messages."""
        current, outdated, waiting, seen = set(self._sources.get(row, ())), dict[str, None](), [row], {row}
        while waiting:
            for id_ in self._superseded.get(waiting.pop(), ()):
                before = row_of.get(id_, -1)
                if before >= 0 and before not in seen:
                    seen.add(before)
                    waiting.append(before)
                    outdated |= dict.fromkeys(link for link in self._sources.get(before, ()) if link not in current)
        return list(outdated)


def _pairs(linked: Mapping[int, Sequence[str]], row_of: Mapping[str, int]) -> Pairs:
    pairs = [(row, row_of[id_]) for row, links in linked.items() for id_ in links if id_ in row_of]
    return np.asarray(pairs, np.int32).reshape(len(pairs), 2)
