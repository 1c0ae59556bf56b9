"""Which rows of a working set stand before which, since one took the place of the other.

What corrects stands before what it corrects; what the user said and holds now before the messages of what it replaced;
what was concluded behind the best of what it was concluded from. Ties name ids; they are looked up once, and again
after each change.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.store.lineage import CORRECTS, LEARNT, REPLACES, replaced_ids
from gateway.store.loaded import Loaded
from gateway.turn import Record

__all__ = ["Ties"]

Pairs = NDArray[np.int32]
_Ids = tuple[str, ...]


class Ties:
    """Of the rows of one working set, by row number. Rows that are archived count only for what they rest on."""

    def __init__(self) -> None:
        self._corrections: dict[int, _Ids] = {}
        self._conclusions: dict[int, _Ids] = {}
        self._successors: set[int] = set()  # of what was replaced
        self._learnt: dict[int, _Ids] = {}  # the messages that each rests on
        self._replaced: dict[int, _Ids] = {}
        self._outranks: Pairs | None = None  # None: to be looked up
        self._concluded: Pairs | None = None

    def fill(self, loaded: Loaded, is_active: NDArray[np.bool_]) -> None:
        """Take what was loaded; there must be none yet."""
        self.changed()
        self._learnt = loaded.links(LEARNT)
        self._replaced = {row: ids for row, info in loaded.infos(REPLACES).items() if (ids := replaced_ids(info))}
        self._corrections = {row: links for row, links in loaded.links(CORRECTS).items() if is_active[row]}
        sources = loaded.strings("source")
        self._conclusions = {
            row: links for row, links in self._learnt.items() if is_active[row] and sources[row] != "user"
        }
        self._successors = {row for row in self._replaced if is_active[row] and row not in self._conclusions}

    def add(self, row: int, record: Record) -> None:
        self.changed()
        is_active, links = record.status == "activated", record.links
        if links and record.info.get(LEARNT):
            self._learnt[row] = links
            if is_active and record.source != "user":
                self._conclusions[row] = links
        if ids := replaced_ids(record.info):
            self._replaced[row] = ids
            if is_active and row not in self._conclusions:
                self._successors.add(row)
        if is_active and links and record.info.get(CORRECTS):
            self._corrections[row] = links

    def remove(self, row: int) -> None:
        self.changed()
        for kept in (self._corrections, self._conclusions, self._learnt, self._replaced):
            kept.pop(row, None)
        self._successors.discard(row)

    def changed(self) -> None:
        """Rows came or went: what the ids are is to be looked up anew."""
        self._outranks = self._concluded = None

    def is_learnt(self, row: int) -> bool:
        return row in self._learnt

    def outranks(self, row_of: Mapping[str, int]) -> Pairs:
        """Shape (m, 2): the first stands before the second, where that is found."""
        if self._outranks is None:
            outdated = {row: self._outdated(row, row_of) for row in self._successors}
            self._outranks = np.concatenate([_pairs(self._corrections, row_of), _pairs(outdated, row_of)])
        return self._outranks

    def conclusions(self, row_of: Mapping[str, int]) -> Pairs:
        """Shape (m, 2): the first was concluded from the second, and is never before all that it was concluded from."""
        if self._concluded is None:
            self._concluded = _pairs(self._conclusions, row_of)
        return self._concluded

    def _outdated(self, row: int, row_of: Mapping[str, int]) -> list[str]:
        """The messages of all that this one replaced, and of what that had replaced, but for its own."""
        own, found, waiting, seen = set(self._learnt.get(row, ())), dict[str, None](), [row], {row}
        while waiting:
            for id_ in self._replaced.get(waiting.pop(), ()):
                before = row_of.get(id_, -1)
                if before >= 0 and before not in seen:
                    seen.add(before)
                    waiting.append(before)
                    found |= dict.fromkeys(link for link in self._learnt.get(before, ()) if link not in own)
        return list(found)


def _pairs(linked: Mapping[int, Sequence[str]], row_of: Mapping[str, int]) -> Pairs:
    pairs = [(row, row_of[id_]) for row, links in linked.items() for id_ in links if id_ in row_of]
    return np.asarray(pairs, np.int32).reshape(len(pairs), 2)
