"""Relevance of rows to a query, and rows that add nothing to the query. Pure."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.calibration import Calibration
from gateway.recall.arrays import Floats
from gateway.recall.columns import Columns
from gateway.recall.rank import RawScores, SetArrays, bm25, relativity
from gateway.recall.signals import Evidence, form_feature
from gateway.recall.term_index import Postings

__all__ = [
    "Coverage",
    "is_empty_talk",
    "is_stated",
    "lift",
    "measure_coverage",
    "measure_evidence",
    "relevance_of",
    "rows_that_repeat",
    "score_segments",
]


_MOSTLY = 0.9  # share of sentences that ask: the text does nothing else
_LIKE, _VERY_LIKE = 0.6, 0.75  # likeness (Dice) from which on a question repeats the query
_DAY_TERMS = 3  # stored with each memory, and in no question
_TERMS_OF_A_SUBJECT = 2
_SHORT_STATEMENT = 80  # tokens
_SHORT_REACTION = 12  # tokens
_SHORT_ANSWER = 40  # tokens of an answer that says no more than that it does not know


class Coverage(NamedTuple):
    """The matches of rows with a query's distinct terms; arrays of length n. See `Evidence`."""

    terms: int
    matched: Floats
    rarest: Floats
    opens: NDArray[np.bool_]


def relevance_of(rows: NDArray[np.int32], raw: RawScores, scale: Calibration, dated: Floats | None) -> Floats:
    """0 to 1 for each of these rows; raised half way to 1 for rows of the period that the query names."""
    cosine = None if raw.cosine is None else raw.cosine[rows]
    return _relevance(raw.words[rows], raw.most, cosine, scale, None if dated is None else dated[rows])


def _relevance(words: Floats, most: float, cosine: Floats | None, scale: Calibration, dated: Floats | None) -> Floats:
    relevance = relativity(words, most, cosine, scale)
    if dated is not None:
        relevance += dated * (1 - relevance) / 2
    return relevance


def measure_evidence(
    columns: Columns, arrays: SetArrays, raw: RawScores, coverage: Coverage, scale: Calibration
) -> Evidence:
    """See `Evidence`; zeros for rows that are not allowed."""
    allowed, cosine = arrays.allowed, None
    if raw.cosine is not None:
        cosine = np.where(allowed, scale.place(raw.cosine), np.float32(0))
    share = np.sqrt(np.clip(raw.words / raw.most, 0, 1)) if raw.most > 0 else np.zeros_like(raw.words)
    return Evidence(
        relevance=allowed * _relevance(raw.words, raw.most, raw.cosine, scale, arrays.dated),
        words_share=allowed * share,
        cosine=cosine,
        forms=columns["form"],
        worth=columns["worth"],
        lengths=columns["length"],
        matched=coverage.matched,
        rarest=coverage.rarest,
        opens=coverage.opens,
        is_extracted=columns["is_extracted"],
    )


def lift(relevance: Floats, corrections: NDArray[np.int32]) -> Floats:
    """Make each correction at least as relevant as the row that it corrects. `corrections`: pairs of places, shape
    (m, 2): the first corrects the second."""
    for first, second in corrections.tolist():
        relevance[first] = max(relevance[first], relevance[second])
    return relevance


def measure_coverage(postings: Postings, opening_rows: NDArray[np.int32], count: int) -> Coverage:
    """Of `count` rows. `postings`: of distinct terms; `opening_rows`: those that begin with one of them."""
    matched = np.bincount(postings.rows, minlength=count).astype(np.float32)
    rarest, opens = np.zeros(count, np.float32), np.zeros(count, np.bool_)
    opens[opening_rows] = True
    frequencies = np.bincount(postings.places, minlength=postings.size)
    rarities = np.log(1 + count / np.maximum(1, frequencies)).astype(np.float32)
    np.maximum.at(rarest, postings.rows, rarities[postings.places])
    return Coverage(postings.size, matched, rarest / np.float32(math.log(1 + count)), opens)


def is_empty_talk(tokens: NDArray[np.int32], from_user: Floats, forms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for short answers that know nothing, and for messages that only react."""
    knows_nothing = (from_user == 0) & (tokens <= _SHORT_ANSWER) & (form_feature(forms, "is_unsure") > 0)
    reacts: NDArray[np.bool_] = (tokens <= _SHORT_REACTION) & (form_feature(forms, "reaction") == 1)
    return np.asarray(knows_nothing | reacts)


def rows_that_repeat(columns: Columns, coverage: Coverage) -> NDArray[np.intp]:
    """The user's own questions that are like the query."""
    rows = np.flatnonzero(coverage.matched)
    lengths = columns["length"][rows] - _DAY_TERMS + coverage.terms
    similarity = 2 * coverage.matched[rows] / np.maximum(lengths, 1)
    like = np.flatnonzero((columns["from_user"][rows] > 0) & (similarity >= _LIKE))
    rows, similarity = rows[like], similarity[like]
    asks = form_feature(columns["form"][rows], "asks")
    return np.asarray(rows[(asks > 0) & (similarity >= np.where(asks > _MOSTLY, _LIKE, _VERY_LIKE))])


def is_stated(columns: Columns, allowed: NDArray[np.bool_], coverage: Coverage) -> bool:
    """True if a short statement of the user has all terms of a query: the query is about that statement."""
    if coverage.terms < _TERMS_OF_A_SUBJECT:
        return False
    rows = np.flatnonzero(allowed & (coverage.matched >= coverage.terms))
    rows = rows[(columns["tokens"][rows] <= _SHORT_STATEMENT) & (columns["from_user"][rows] > 0)]
    forms = columns["form"][rows]
    return bool(((form_feature(forms, "asks") == 0) & (form_feature(forms, "orders") == 0)).any())


def score_segments(postings: Postings, segment: NDArray[np.int32], lengths: Floats) -> Floats:
    """BM25 of each segment of a conversation, as if it were one text. `segment`: the segment number of each row;
    `lengths`: the number of terms of each segment."""
    if not len(lengths):
        return lengths
    keys = postings.places * len(lengths) + segment[postings.rows]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.add.reduceat(postings.counts[order], begins) if len(begins) else postings.counts
    places, segments = np.divmod(keys[begins], len(lengths))
    by_segment = Postings(places, segments.astype(np.int32), counts, postings.size)
    scores, _ = bm25(by_segment, lengths, float(lengths.mean()), len(lengths))
    return scores
