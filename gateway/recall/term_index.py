"""An inverted index that grows: occurrences of terms, and of two adjacent terms.

One array has the terms of all rows in sequence, as numbers; a second one has their positions ordered by term. Terms
added since the last ordering are few and are scanned once a query. All terms of a query are looked up together, in a
few array operations; a phrase costs no more than a look at the position beside each term. One thread at a time.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.recall.arrays import Floats, Ints

__all__ = ["Hits", "Postings", "TermIndex", "count_runs"]


_SCANNED_AT_LEAST = 4096  # positions that are scanned rather than ordered
_SCANNED_SHARE = 8  # or so much of the whole: one in eight
_WORD_BYTES = 160  # of a distinct term: its string, its number, its place in the dictionary
_NOTHING = np.empty(0, np.int32)
_NO_TERM, _NO_ROW = -1, -1  # at both ends of the sequence, so that each position has one before and one after it
_POSITION_BITS = 32


class Hits(NamedTuple):
    """The occurrences of some terms, term after term, rising. `numbers`: of the terms in the index; `parts`: the
    positions of each; `rows` of these, and `places` of the terms among those that were looked up."""

    numbers: list[int]
    parts: list[Ints]
    positions: Ints
    rows: Ints
    places: NDArray[np.intp]


class Postings(NamedTuple):
    """The rows that hold each of `size` terms, term after term, and how often each does. `places`: which term."""

    places: NDArray[np.intp]
    rows: Ints
    counts: Floats
    size: int


class TermIndex:
    """An index of terms by row. Rows are numbered by the caller, each added once, in rising order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._terms = np.full(256, _NO_TERM, np.int32)
        self._rows = np.full(256, _NO_ROW, np.int32)
        self._count = 1
        self._ordered = 1
        self._by_term = _NOTHING
        self._starts = np.zeros(2, np.int64)

    @property
    def nbytes(self) -> int:
        words = _WORD_BYTES * len(self._numbers)  # an estimate, since other threads read the size while this one adds
        return self._terms.nbytes + self._rows.nbytes + self._by_term.nbytes + self._starts.nbytes + words

    def add(self, first_row: int, texts: Sequence[Iterable[str]]) -> Ints:
        """Add the terms of the rows from `first_row` on. Returns how many each has."""
        numbers = self._numbers
        added: list[int] = []
        lengths = np.empty(len(texts), np.int32)
        for index, words in enumerate(texts):
            before = len(added)
            for word in words:
                number = numbers.get(word)
                if number is None:
                    number = numbers[word] = len(numbers)
                added.append(number)
            lengths[index] = len(added) - before
        self._extend(first_row, np.asarray(added, np.int32), lengths)
        return lengths

    def add_numbered(self, first_row: int, words: Sequence[str], numbers: Ints, lengths: Ints) -> None:
        """Add terms that are numbers of `words`, and order the index; `lengths`: how many terms each row has."""
        vocabulary = self._numbers
        if vocabulary:
            ours = np.asarray([vocabulary.setdefault(word, len(vocabulary)) for word in words], np.int32)
            numbers = ours[numbers] if len(words) else numbers
        else:
            vocabulary.update(zip(words, range(len(words)), strict=True))
        self._extend(first_row, numbers, lengths)
        self._order()

    def _extend(self, first_row: int, numbers: Ints, lengths: Ints) -> None:
        end = self._count + len(numbers)
        self._reserve(end + 1)
        self._terms[self._count : end] = numbers
        rows = np.arange(first_row, first_row + len(lengths), dtype=np.int32)
        self._rows[self._count : end] = np.repeat(rows, lengths)
        self._terms[end], self._rows[end] = _NO_TERM, _NO_ROW
        self._count = end

    def find(self, terms: Sequence[str]) -> Hits:
        """The occurrences of these distinct terms."""
        if self._count - self._ordered > max(_SCANNED_AT_LEAST, self._ordered // _SCANNED_SHARE):
            self._order()
        numbers = [self._numbers.get(term, _NO_TERM) for term in terms]
        known = len(self._starts) - 1  # terms that are ordered
        wanted = np.asarray([number if 0 <= number < known else known for number in numbers], np.intp)
        begins, ends = self._starts[wanted].tolist(), self._starts[np.minimum(wanted + 1, known)].tolist()
        parts = [self._by_term[begin:end] for begin, end in zip(begins, ends, strict=True)]
        if self._ordered < self._count:
            self._add_late(parts, numbers)
        positions = np.concatenate(parts) if parts else _NOTHING
        places = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return Hits(numbers, parts, positions, self._rows[positions], places)

    def opening_rows(self, hits: Hits) -> Ints:
        """The rows that begin with one of the terms: a person's messages, where names precede messages."""
        rows: Ints = hits.rows[self._rows[hits.positions - 1] != hits.rows]
        return rows

    def find_pairs(self, hits: Hits, pairs: Sequence[tuple[int, int]]) -> Postings:
        """The rows that hold two adjacent terms in this order; `pairs`: places of the terms."""
        if not pairs:
            return Postings(np.empty(0, np.intp), _NOTHING, np.empty(0, np.float32), 0)
        sizes, absent = [len(part) for part in hits.parts], len(self._numbers)  # `absent` is the number of no term
        is_first_rarer = [sizes[first] <= sizes[second] for first, second in pairs]
        parts, others = [], []
        for (first, second), is_first in zip(pairs, is_first_rarer, strict=True):
            parts.append(hits.parts[first if is_first else second])
            number = hits.numbers[second if is_first else first]
            others.append(absent if number == _NO_TERM else number)
        steps = np.where(is_first_rarer, np.int32(1), np.int32(-1))
        lengths = [len(part) for part in parts]
        positions = np.concatenate(parts)
        beside = positions + np.repeat(steps, lengths)
        matches = np.flatnonzero(self._terms[beside] == np.repeat(np.asarray(others, np.int32), lengths))
        rows = self._rows[positions[matches]]
        is_same = rows == self._rows[beside[matches]]
        places = np.repeat(np.arange(len(parts)), lengths)[matches]
        return count_runs(places[is_same], rows[is_same], len(parts))

    def _add_late(self, parts: list[Ints], numbers: Sequence[int]) -> None:
        """Add the occurrences since the last ordering."""
        place_of = np.full(len(self._numbers), -1, np.int32)
        known = [(place, number) for place, number in enumerate(numbers) if number != _NO_TERM]
        if not known:
            return
        places, own = np.asarray(known, np.int32).T
        place_of[own] = places
        late = place_of[self._terms[self._ordered : self._count]]
        where = np.flatnonzero(late >= 0)
        if not len(where):
            return
        order = np.argsort(late[where], kind="stable")
        where, late = (where[order] + self._ordered).astype(np.int32), late[where[order]]
        begins = np.flatnonzero(np.diff(late, prepend=-1)).tolist()
        for begin, end in zip(begins, [*begins[1:], len(late)], strict=True):
            place = int(late[begin])
            parts[place] = np.concatenate([parts[place], where[begin:end]])

    def _order(self) -> None:
        late = np.arange(self._ordered, self._count, dtype=np.int64)
        keys = self._terms[self._ordered : self._count].astype(np.int64) << _POSITION_BITS
        keys |= late
        keys.sort()
        late_terms, late = keys >> _POSITION_BITS, (keys & (2**_POSITION_BITS - 1)).astype(np.int32)
        counts = np.bincount(late_terms, minlength=len(self._numbers))
        if len(self._by_term):
            known = len(self._starts) - 1
            self._by_term = np.insert(self._by_term, self._starts[np.minimum(late_terms + 1, known)], late)
            counts[:known] += np.diff(self._starts)
        else:
            self._by_term = late
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._ordered = self._count

    def _reserve(self, count: int) -> None:
        if count > len(self._terms):
            capacity = max(count, len(self._terms) * 3 // 2)
            self._terms = np.concatenate([self._terms, np.empty(capacity - len(self._terms), np.int32)])
            self._rows = np.concatenate([self._rows, np.empty(capacity - len(self._rows), np.int32)])


def count_runs(places: NDArray[np.intp], rows: Ints, size: int) -> Postings:
    """The distinct rows of each place, and how often each occurs; equal ones must be adjacent."""
    is_first = np.empty(len(rows), np.bool_)
    is_first[:1] = True
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    is_first[1:] |= places[1:] != places[:-1]
    begins = np.flatnonzero(is_first)
    if len(begins) == len(rows):
        return Postings(places, rows, np.ones(len(rows), np.float32), size)
    counts = np.empty(len(begins), np.float32)
    counts[:-1] = begins[1:] - begins[:-1]
    counts[-1] = len(rows) - begins[-1]
    return Postings(places[begins], rows[begins], counts, size)
