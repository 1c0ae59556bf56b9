"""Scores and ranks the rows of a working set. Pure: arrays in, arrays out.

The steps, in order: BM25 (words, and pairs of adjacent words) and cosine, each standardised over the whole set and
added (rank fusion would discard the gaps between scores); BM25 of the segment of conversation (`segment`) round the
memory; the scores of the memory's neighbours, and of the best one in its segment; a penalty for length. Long answers
get a penalty instead of a neighbours' bonus, since they match everything near them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gateway.embedding.calibration import Calibration
from gateway.recall.arrays import Bools, Floats, Ints
from gateway.recall.term_index import Postings

__all__ = [
    "Outline",
    "RankWeights",
    "Ranked",
    "RawScores",
    "Scores",
    "SetArrays",
    "bm25",
    "outline_scores",
    "rank",
    "relativity",
    "score",
    "share_of_neighbours",
]


_K1 = 1.2  # Robertson & Zaragoza 2009, the usual value
_B = 0.9  # above the usual 0.75: memories are short, and a long text is rarely to the point
_RARITY = 1.5  # power of the inverse frequency: in one person's memory the rare word decides
_NOTHING, _SAID, _MEANT = 3.4, 5.6, 4.4  # see `relativity`
_USUAL_MEANING = 0.3  # usual cosine, on the scale, of memories that share the query's words; used without a vector
# Most rows share no word with a query. If all of them counted, the same match would weigh more in a larger memory.
_BEST_ROWS, _BEST_STRETCHES = 600, 120
_ALL_ROWS = slice(None)
_CLEARLY = 0.01  # by which a correction scores higher than the row that it corrects


@dataclass(frozen=True, slots=True)
class RankWeights:
    """The weights of the steps; chosen on conversations in English and Chinese, where each has a broad optimum."""

    pair: float = 0.75
    cosine: float = 0.8
    segment_words: float = 0.3
    neighbour: float = 0.4
    second_neighbour: float = 0.15
    segment_best: float = 0.3
    from_user: float = 0.6
    price: float = 1.2
    alone_penalty: float = 8.0
    doubt: float = 3.0
    date: float = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SetArrays:
    """The columns of a working set that ranking needs; all of length n.

    `price` is ln(tokens / 30). `from_user` is 1 for the user's own words, else 0. `before` and `after` are row numbers
    of the neighbours within the session, -1 where there is none. `is_long` marks rows of a long answer. `segment`
    numbers the segments of conversation. `dated` is 1 for rows of the period that the query names (None: it names
    none). `doubt` is 1 for a text that reads like an instruction to a model, else 0.
    `outranks` holds pairs of rows, of shape (m, 2): the first corrects the second. `conclusions` too: the first was
    concluded from the second, and is never before all that it was concluded from.
    """

    price: Floats
    from_user: Floats
    is_long: Bools
    segment: Ints
    before: Ints
    after: Ints
    allowed: Bools
    doubt: Floats
    outranks: Ints | None = None
    conclusions: Ints | None = None
    dated: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawScores:
    """Raw scores of a query: BM25 of words and of pairs by row, of words by segment; cosine by row. `most`: the highest
    BM25 of words that a row could reach."""

    words: Floats
    pairs: Floats
    segments: Floats
    cosine: Floats | None
    most: float = 0.0


def bm25(postings: Postings, lengths: Floats, average_length: float, row_count: int) -> tuple[Floats, float]:
    """BM25 of each row, and the most that any could reach. `row_count`: of rows for the inverse frequencies."""
    if not postings.size:
        return np.zeros(len(lengths), np.float32), 0.0
    frequencies = np.minimum(np.bincount(postings.places, minlength=postings.size), row_count)
    rarities = np.log(1 + (row_count - frequencies + 0.5) / (frequencies + 0.5)) ** _RARITY
    worths = (rarities * (_K1 + 1)).astype(np.float32)
    rows, counts = postings.rows, postings.counts
    norms = _K1 * (1 - _B + (_B / max(average_length, 1e-6)) * lengths[rows])
    gains = worths[postings.places] * counts / (counts + norms)
    scores = np.bincount(rows, weights=gains, minlength=len(lengths)).astype(np.float32)
    return scores, float(worths.sum())


def relativity(words: Floats, most: float, cosine: Floats | None, scale: Calibration) -> Floats:
    """Relevance, 0–1: from 0.45 on a person would say "relevant".

    Logistic regression on the BM25 score of the query's words as a share of the highest possible one, and on the cosine
    on the embedder's scale (0: unrelated, 1: as a question and its answer). Fitted to turns that answer a question
    against turns that do not and against questions that no turn answers, in English and Chinese, with equal weight for
    each set.
    """
    share = np.sqrt(np.clip(words / most, 0, 1)) if most > 0 else np.zeros_like(words)
    if cosine is None:
        meaning: Floats | float = _USUAL_MEANING
    else:
        meaning = scale.place(cosine)
    return np.asarray(1 / (1 + np.exp(_NOTHING - _SAID * share - _MEANT * meaning)), np.float32)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows, best first, their scores, and what each score is made of: one column for each of SCORE_PARTS."""

    rows: Ints
    scores: Floats
    parts: Floats


@dataclass(frozen=True, slots=True)
class Scores:
    """The score of each row of a set, -inf where it is not allowed, and its parts: one array for each of
    SCORE_PARTS. `allowed`: how many rows are."""

    totals: Floats
    parts: tuple[Floats, ...]
    allowed: int

    def best(self, limit: int, among: Bools | None = None) -> Ints:
        """The allowed rows of the highest scores, best first; `among`: only of these."""
        totals = self.totals if among is None else np.where(among, self.totals, -np.inf)
        limit = min(limit, self.allowed if among is None else int(np.isfinite(totals).sum()))
        rows = np.argpartition(-totals, max(limit - 1, 0))[:limit] if limit < len(totals) else np.arange(len(totals))
        return rows[np.argsort(-totals[rows], kind="stable")][:limit].astype(np.int32)

    def ranked(self, rows: Ints) -> Ranked:
        """These rows, best first, with their scores."""
        rows = rows[np.argsort(-self.totals[rows], kind="stable")]
        parts = np.empty((len(rows), len(self.parts)), np.float32)
        for place, part in enumerate(self.parts):
            parts[:, place] = part[rows]
        return Ranked(rows, self.totals[rows].astype(np.float32), parts)


class Outline(NamedTuple):
    """The parts of each row's score that no other row has a share in: standardised over the whole set."""

    words: Floats
    meaning: Floats
    segment: Floats

    @property
    def alone(self) -> Floats:
        """Their sum."""
        return self.words + self.meaning + self.segment


def rank(arrays: SetArrays, outline: Outline, neighbours: Floats, weights: RankWeights, limit: int) -> Ranked:
    """The best `limit` allowed rows."""
    scores = score(arrays, outline, neighbours, weights)
    return scores.ranked(scores.best(limit))


def outline_scores(arrays: SetArrays, raw: RawScores, weights: RankWeights) -> Outline:
    """The outline of the scores of all rows; at least one must be allowed."""
    count = int(np.count_nonzero(arrays.allowed))
    by_words = raw.words + np.float32(weights.pair) * raw.pairs
    words = _standardise(by_words, _best_matches(by_words, arrays.allowed, count))
    meaning = np.zeros_like(words)
    if raw.cosine is not None:
        chosen = raw.cosine if count == len(raw.cosine) else raw.cosine[arrays.allowed]
        meaning = np.float32(weights.cosine) * _standardise(raw.cosine, chosen)
    deviation = float(_highest(raw.segments, _BEST_STRETCHES).std()) or 1.0
    by_segment = np.float32(weights.segment_words / deviation) * (raw.segments - raw.segments.mean())
    return Outline(words, meaning, by_segment[arrays.segment])


def share_of_neighbours(
    arrays: SetArrays, alone: Floats, weights: RankWeights, rows: Ints | slice = _ALL_ROWS
) -> Floats:
    """The share of these rows in the scores of their neighbours; a penalty for long answers. `alone`: by row."""
    takes_part = arrays.allowed & ~arrays.is_long
    shares = np.append(np.where(takes_part, alone, np.float32(0)), np.float32(0))  # row -1: no neighbour
    before, after = arrays.before[rows], arrays.after[rows]
    second_before = np.where(before >= 0, arrays.before[before], -1)
    second_after = np.where(after >= 0, arrays.after[after], -1)
    gained = np.float32(weights.neighbour) * (shares[before] + shares[after])
    gained += np.float32(weights.second_neighbour) * (shares[second_before] + shares[second_after])
    return np.where(takes_part[rows], gained, np.float32(-weights.alone_penalty))


def score(arrays: SetArrays, outline: Outline, neighbours: Floats, weights: RankWeights) -> Scores:
    """Scores of all rows; at least one must be allowed. `neighbours`: the result of `share_of_neighbours`."""
    joined = outline.alone + neighbours
    best_of_segment = np.float32(weights.segment_best) * _best_of_segment(joined, arrays)
    from_user = np.float32(weights.from_user) * arrays.from_user
    length = np.float32(-weights.price) * arrays.price
    doubt = np.float32(-weights.doubt) * arrays.doubt
    date = np.zeros_like(doubt) if arrays.dated is None else np.float32(weights.date) * arrays.dated
    scores = joined + best_of_segment + from_user + length + doubt + date
    scores[~arrays.allowed] = -np.inf
    _raise_corrections(scores, arrays)
    _lower_conclusions(scores, arrays)
    parts = (*outline, neighbours, best_of_segment, from_user, length, doubt, date)
    return Scores(scores, parts, int(np.count_nonzero(arrays.allowed)))


def _raise_corrections(scores: Floats, arrays: SetArrays) -> None:
    """Score each correction above the row that it corrects, where both are allowed."""
    if arrays.outranks is None or not len(arrays.outranks):
        return
    correction, corrected = arrays.outranks.T
    needed = np.where(arrays.allowed[correction], scores[corrected] + np.float32(_CLEARLY), np.float32(-np.inf))
    np.maximum.at(scores, correction, needed)


def _lower_conclusions(scores: Floats, arrays: SetArrays) -> None:
    """Score each conclusion below the best of its premises."""
    if arrays.conclusions is None or not len(arrays.conclusions):
        return
    conclusion, premise = arrays.conclusions.T
    best = np.full(len(scores), -np.inf, np.float32)
    np.maximum.at(best, conclusion, np.where(arrays.allowed[premise], scores[premise], np.float32(-np.inf)))
    behind = np.isfinite(best) & arrays.allowed
    scores[behind] = np.minimum(scores[behind], best[behind] - np.float32(_CLEARLY))


def _best_matches(values: Floats, allowed: Bools, count: int) -> Floats:
    """The highest of the allowed values, none of which is negative: most rows share no word with a query."""
    matches = values[allowed & (values > 0)]
    missing = min(_BEST_ROWS, count) - len(matches)
    return _highest(matches, _BEST_ROWS) if missing <= 0 else np.append(matches, np.zeros(missing, np.float32))


def _standardise(values: Floats, chosen: Floats) -> Floats:
    """Standard scores of values, with mean and deviation of the chosen ones."""
    deviation = float(chosen.std())
    if deviation < 1e-9:
        return np.zeros_like(values)
    return np.asarray((values - chosen.mean()) * np.float32(1 / deviation), np.float32)


def _highest(values: Floats, count: int) -> Floats:
    """At most `count` of the highest values, in no order."""
    return values if len(values) <= count else np.partition(values, len(values) - count)[-count:]


def _best_of_segment(scores: Floats, arrays: SetArrays) -> Floats:
    best = np.full(int(arrays.segment.max()) + 1, -np.inf, np.float32)
    np.maximum.at(best, arrays.segment[arrays.allowed], scores[arrays.allowed])
    best[~np.isfinite(best)] = 0
    return np.asarray(best[arrays.segment], np.float32)
