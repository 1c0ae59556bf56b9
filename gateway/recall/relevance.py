"""Relevance of rows to a query, and rows that add nothing to the query. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.calibration import Calibration
from gateway.recall.arrays import Floats
from gateway.recall.columns import Columns
from gateway.recall.rank import Posting, RawScores, SetArrays, bm25, relativity
from gateway.recall.signals import Evidence, form_feature
from gateway.recall.term_index import TermIndex

__all__ = [
    "Coverage",
    "is_stated",
    "is_superfluous",
    "lift",
    "measure_coverage",
    "measure_evidence",
    "relevance_of",
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
    """0 to 1 for each row; raised half way to 1 for rows of the period that the query names."""
    relevance = relativity(raw.words[rows], raw.most, None if raw.cosine is None else raw.cosine[rows], scale)
    if dated is not None:
        relevance += dated[rows] * (1 - relevance) / 2
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
        relevance=allowed * relevance_of(np.arange(len(allowed), dtype=np.int32), raw, scale, arrays.dated),
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


def lift(relevance: Floats, rows: NDArray[np.int32], outranks: NDArray[np.int32] | None) -> Floats:
    """Make each correction at least as relevant as the row that it corrects. Shapes (n,), (n,) and (m, 2): the first of
    a pair ranks before the second."""
    if outranks is None or not len(outranks):
        return relevance
    place = {row: index for index, row in enumerate(rows.tolist())}
    for first, second in outranks[np.isin(outranks, rows).all(axis=1)].tolist():
        relevance[place[first]] = max(relevance[place[first]], relevance[place[second]])
    return relevance


def measure_coverage(index: TermIndex, terms: Sequence[str], postings: Sequence[Posting], count: int) -> Coverage:
    """Of `count` rows of an index. `postings`: of each of these distinct terms."""
    matched, rarest = np.zeros(count, np.float32), np.zeros(count, np.float32)
    opens = np.zeros(count, np.bool_)
    for term, (rows, _) in zip(terms, postings, strict=True):
        matched[rows] += 1
        rarest[rows] = np.maximum(rarest[rows], np.float32(math.log(1 + count / max(1, len(rows)))))
        opens[index.rows_opening_with(term)] = True
    return Coverage(len(terms), matched, rarest / np.float32(math.log(1 + count)), opens)


def is_superfluous(columns: Columns, coverage: Coverage, *, keeps_questions: bool = False) -> NDArray[np.bool_]:
    """True for the user's own questions that are like the query, for short answers that know nothing, and for
    messages that only react. `keeps_questions`: the first are wanted."""
    from_user = columns["from_user"] > 0
    word_similarity = 2 * coverage.matched / np.maximum(columns["length"] - _DAY_TERMS + coverage.terms, 1)
    superfluous = np.zeros(len(word_similarity), np.bool_)
    like = np.flatnonzero(from_user & (word_similarity >= _LIKE))
    if not keeps_questions:
        asks = form_feature(columns["form"][like], "asks")
        superfluous[like] = (asks > 0) & (word_similarity[like] >= np.where(asks > _MOSTLY, _LIKE, _VERY_LIKE))
    short = np.flatnonzero(~from_user & (columns["tokens"] <= _SHORT_ANSWER))
    superfluous[short] = form_feature(columns["form"][short], "is_unsure") > 0
    short = np.flatnonzero(columns["tokens"] <= _SHORT_REACTION)
    superfluous[short] |= form_feature(columns["form"][short], "reaction") == 1
    return superfluous


def is_stated(columns: Columns, allowed: NDArray[np.bool_], coverage: Coverage) -> bool:
    """True if a short statement of the user has all terms of a query: the query is about that statement."""
    if coverage.terms < _TERMS_OF_A_SUBJECT:
        return False
    is_short = columns["tokens"] <= _SHORT_STATEMENT
    rows = np.flatnonzero(allowed & is_short & (columns["from_user"] > 0) & (coverage.matched >= coverage.terms))
    forms = columns["form"][rows]
    return bool(((form_feature(forms, "asks") == 0) & (form_feature(forms, "orders") == 0)).any())


def score_segments(words: Sequence[Posting], segment: NDArray[np.int32], lengths: Floats) -> Floats:
    """BM25 of each segment of a conversation, as if it were one text. `segment`: the segment number of each row;
    `lengths`: the number of terms of each segment."""
    postings: list[Posting] = []
    for rows, counts in words:
        by_segment = np.bincount(segment[rows], counts, len(lengths))
        holding = np.flatnonzero(by_segment).astype(np.int32)
        postings.append((holding, by_segment[holding].astype(np.float32)))
    scores, _ = bm25(postings, lengths, float(lengths.mean()), len(lengths))
    return scores
