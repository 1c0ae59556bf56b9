"""Restricts a large working set to the rows that may be among the best. Pure: arrays in, arrays out.

What makes a row good beside its own score are its neighbours and the best row of its segment. So the segments of the
best rows are taken whole, with a few rows at either end. The scores of the rows in them equal those in the whole set;
the other rows would hardly be among the best.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.recall.arrays import Bools, Floats, Ints
from gateway.recall.columns import Columns
from gateway.recall.rank import Outline, RankWeights, RawScores, SetArrays, outline_scores, share_of_neighbours
from gateway.recall.relevance import Coverage
from gateway.text.worth import TASK_WORTH

__all__ = ["Field", "make_field"]

_DIRECT = 24_576  # rows up to which a set is searched whole
_BY_SCORE = 800  # best rows whose segments are taken
_SINGLE = 200  # best rows by words, and by meaning
_USED = ("tokens", "form", "worth", "length", "is_extracted")  # columns that ranked rows need
_SAMPLED = 17  # one row of so many is in a sample; odd, since users and assistants alternate
_BEFORE, _AFTER = 2, 3  # rows at the ends of a segment; an answer is in pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The rows that a search ranks, with all that it knows of them. `rows`: their numbers in the set; None: all."""

    columns: Columns
    arrays: SetArrays
    raw: RawScores
    coverage: Coverage
    outline: Outline
    neighbours: Floats
    rows: Ints | None = None

    def in_set(self, rows: Ints) -> Ints:
        """Row numbers of this field as those of the set."""
        return rows if self.rows is None else self.rows[rows]


def make_field(columns: Columns, arrays: SetArrays, raw: RawScores, coverage: Coverage, weights: RankWeights) -> Field:
    """The field of all rows, or of those that may be among the best if there are many."""
    outline = outline_scores(arrays, raw, weights)
    alone = outline.alone
    if len(arrays.allowed) <= _DIRECT:
        neighbours = share_of_neighbours(arrays, alone, weights)
        return Field(columns=columns, arrays=arrays, raw=raw, coverage=coverage, outline=outline, neighbours=neighbours)
    rows = _choose(arrays, raw, alone, columns["worth"] > TASK_WORTH, weights)
    place_of = np.full(len(arrays.allowed) + 1, -1, np.int32)  # the last one is that of row -1
    place_of[rows] = np.arange(len(rows), dtype=np.int32)
    cosine = None if raw.cosine is None else raw.cosine[rows]
    matched, rarest, opens = coverage.matched[rows], coverage.rarest[rows], coverage.opens[rows]
    return Field(
        columns={name: columns[name][rows] for name in _USED},
        arrays=_restrict_arrays(arrays, rows, place_of),
        raw=replace(raw, words=raw.words[rows], pairs=raw.pairs[rows], cosine=cosine),
        coverage=Coverage(coverage.terms, matched, rarest, opens),
        outline=Outline(*(part[rows] for part in outline)),
        neighbours=share_of_neighbours(arrays, alone, weights, rows),
        rows=rows,
    )


def _choose(arrays: SetArrays, raw: RawScores, alone: Floats, is_no_task: Bools, weights: RankWeights) -> Ints:
    """The rows of the field of a large set, rising."""
    allowed, is_no_task = arrays.allowed, arrays.allowed & is_no_task
    total = alone + np.float32(weights.from_user) * arrays.from_user - np.float32(weights.price) * arrays.price
    total -= np.float32(weights.doubt) * arrays.doubt + np.float32(weights.alone_penalty) * arrays.is_long
    if arrays.dated is not None:
        total += np.float32(weights.date) * arrays.dated
    seeds = [
        _best(total, allowed, _BY_SCORE),
        _best(alone, allowed, _BY_SCORE),
        _best(total, is_no_task, _BY_SCORE),
        _best(raw.words, is_no_task & (raw.words > 0), _SINGLE),
    ]
    if raw.cosine is not None:
        seeds.append(_best(raw.cosine, is_no_task, _SINGLE))
    is_taken = np.zeros(len(raw.segments), np.bool_)
    is_taken[arrays.segment[np.concatenate(seeds)]] = True
    is_chosen = is_taken[arrays.segment]
    _take_ends(is_chosen, arrays.before, _BEFORE)
    _take_ends(is_chosen, arrays.after, _AFTER)
    for pairs in (arrays.outranks, arrays.conclusions):
        if pairs is not None:
            is_chosen[pairs[is_chosen[pairs].any(axis=1)]] = True
    return np.flatnonzero(is_chosen).astype(np.int32)


def _best(values: Floats, among: Bools, count: int) -> NDArray[np.intp]:
    """About `count` rows of the highest values: a sample tells from which value on there are so many."""
    sample = values[::_SAMPLED][among[::_SAMPLED]]
    place = count // _SAMPLED
    if len(sample) <= place:
        return np.flatnonzero(among)
    return np.flatnonzero(among & (values >= np.partition(sample, len(sample) - place)[-place]))


def _take_ends(is_chosen: Bools, next_row: Ints, count: int) -> None:
    rows = next_row[is_chosen]
    for _ in range(count):
        rows = rows[rows >= 0]
        rows = rows[~is_chosen[rows]]
        is_chosen[rows] = True
        rows = next_row[rows]


def _restrict_arrays(arrays: SetArrays, rows: Ints, place_of: Ints) -> SetArrays:
    return SetArrays(
        price=arrays.price[rows],
        from_user=arrays.from_user[rows],
        is_long=arrays.is_long[rows],
        segment=arrays.segment[rows],
        before=place_of[arrays.before[rows]],
        after=place_of[arrays.after[rows]],
        allowed=arrays.allowed[rows],
        doubt=arrays.doubt[rows],
        outranks=_places(arrays.outranks, place_of),
        conclusions=_places(arrays.conclusions, place_of),
        dated=None if arrays.dated is None else arrays.dated[rows],
    )


def _places(pairs: Ints | None, place_of: Ints) -> Ints | None:
    if pairs is None:
        return None
    places = place_of[pairs]
    return places[(places >= 0).all(axis=1)]
