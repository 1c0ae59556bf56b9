"""An inverted index that grows: rows and counts of a term, and of two adjacent terms.

One array has the terms of all rows in sequence, as numbers; a second one has their positions ordered by term. Terms
added since the last ordering are few and are scanned. So building takes a few array operations, and a phrase costs no
more than a look at the position after each term. One thread at a time.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.recall.arrays import Floats, Ints

__all__ = ["TermIndex"]


_SCANNED_AT_LEAST = 4096  # positions that are scanned rather than ordered
_SCANNED_SHARE = 8  # or so much of the whole: one in eight
_WORD_BYTES = 160  # of a distinct term: its string, its number, its place in the dictionary
_NOTHING = np.empty(0, np.int32)


class TermIndex:
    """An index of terms by row. Rows are numbered by the caller, each added once, in rising order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._terms = np.empty(256, np.int32)
        self._rows = np.empty(256, np.int32)
        self._count = 0
        self._by_term = _NOTHING
        self._starts = np.zeros(1, np.int64)

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
        """Add terms that are numbers of `words`; `lengths`: how many terms each row has."""
        vocabulary = self._numbers
        ours = np.asarray([vocabulary.setdefault(word, len(vocabulary)) for word in words], np.int32)
        self._extend(first_row, ours[numbers] if len(words) else numbers, lengths)

    def _extend(self, first_row: int, numbers: Ints, lengths: Ints) -> None:
        end = self._count + len(numbers)
        self._reserve(end)
        self._terms[self._count : end] = numbers
        rows = np.arange(first_row, first_row + len(lengths), dtype=np.int32)
        self._rows[self._count : end] = np.repeat(rows, lengths)
        self._count = end

    def rows_of(self, term: str) -> tuple[Ints, Floats]:
        """The rows that hold a term, rising, and how often each does."""
        return _count_runs(self._rows[self._positions(term)])

    def postings(self, terms: Iterable[str]) -> list[tuple[Ints, Floats]]:
        """The rows of each term."""
        return [self.rows_of(term) for term in terms]

    def rows_opening_with(self, term: str) -> Ints:
        """The rows that begin with a term, rising: a person's messages, where names precede messages."""
        positions = self._positions(term)
        rows: Ints = self._rows[positions]
        is_first: NDArray[np.bool_] = (positions == 0) | (self._rows[positions - 1] != rows)
        return rows[is_first]

    def rows_of_pair(self, first: str, second: str) -> tuple[Ints, Floats]:
        """The rows that hold two adjacent terms in this order, rising, and how often each does."""
        before, after = self._positions(first), self._positions(second)
        if len(before) <= len(after):
            after = before[: np.searchsorted(before, self._count - 1)] + 1
            before = after[self._terms[after] == self._numbers.get(second, -1)] - 1
        else:
            before = after[np.searchsorted(after, 1) :] - 1
            before = before[self._terms[before] == self._numbers.get(first, -1)]
        rows = self._rows[before]
        return _count_runs(rows[rows == self._rows[before + 1]])

    def _positions(self, term: str) -> NDArray[np.integer]:
        number = self._numbers.get(term)
        if number is None:
            return _NOTHING
        ordered = len(self._by_term)
        if self._count - ordered > max(_SCANNED_AT_LEAST, ordered // _SCANNED_SHARE):
            self._order()
            ordered = self._count
        positions = _NOTHING
        if number + 1 < len(self._starts):
            positions = self._by_term[self._starts[number] : self._starts[number + 1]]
        if ordered == self._count:
            return positions
        late = np.flatnonzero(self._terms[ordered : self._count] == number)
        return np.concatenate([positions, late + ordered]) if len(late) else positions

    def _order(self) -> None:
        terms = self._terms[: self._count]
        self._by_term = np.argsort(terms, kind="stable").astype(np.int32)
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=len(self._numbers)))])

    def _reserve(self, count: int) -> None:
        if count > len(self._terms):
            capacity = max(count, len(self._terms) * 3 // 2)
            self._terms = np.concatenate([self._terms, np.empty(capacity - len(self._terms), np.int32)])
            self._rows = np.concatenate([self._rows, np.empty(capacity - len(self._rows), np.int32)])


def _count_runs(rows: Ints) -> tuple[Ints, Floats]:
    """The distinct ones of rising numbers, and how often each occurs."""
    is_first = np.empty(len(rows), np.bool_)
    is_first[:1] = True
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    begins = np.flatnonzero(is_first)
    counts = np.ones(len(begins), np.float32)
    if len(begins) == len(rows):
        return rows, counts
    counts[:-1] = begins[1:] - begins[:-1]
    counts[-1] = len(rows) - begins[-1]
    return rows[begins], counts
