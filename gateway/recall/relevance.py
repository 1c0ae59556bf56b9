"""Relevance of rows to a query, and which rows say nothing that a query does not say itself. Pure."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.recall.columns import Columns
from gateway.recall.rank import Found, Posting, bm25, relativity
from gateway.recall.signals import form_feature
from gateway.store.scale import Scale

__all__ = ["coverage", "is_superfluous", "is_told", "lift", "relevance_of", "score_stretches"]

Floats = NDArray[np.float32]

_MOSTLY = 0.9  # share of sentences that ask: the text does nothing else
_LIKE, _VERY_LIKE = 0.6, 0.75  # likeness (Dice) from which on a question repeats the query
_DAY_TERMS = 3  # stored with each memory, and in no question
_TERMS_OF_A_SUBJECT = 2
_SHORT_STATEMENT = 80  # tokens
_SHORT_ANSWER = 40  # tokens of an answer that says no more than that it does not know


def relevance_of(rows: NDArray[np.int32], found: Found, most: float, scale: Scale, dated: Floats | None) -> Floats:
    """0 to 1 for each row; half way to 1 where it was said in the time that is asked about."""
    relevance = relativity(found.words[rows], most, None if found.cosine is None else found.cosine[rows], scale)
    if dated is not None:
        relevance += dated[rows] * (1 - relevance) / 2
    return relevance


def lift(relevance: Floats, rows: NDArray[np.int32], outranks: NDArray[np.int32] | None) -> Floats:
    """A correction is at least as relevant as what it corrects. Shapes (n,), (n,) and (m, 2): the first of a pair
    stands before the second."""
    if outranks is None or not len(outranks):
        return relevance
    place = {row: index for index, row in enumerate(rows.tolist())}
    for first, second in outranks[np.isin(outranks, rows).all(axis=1)].tolist():
        relevance[place[first]] = max(relevance[place[first]], relevance[place[second]])
    return relevance


def coverage(postings: Sequence[Posting], count: int) -> tuple[Floats, Floats]:
    """For each of `count` rows: how many of these terms it has, and the inverse frequency of the rarest of them, as a
    share of that of a term that one row has."""
    matched, rarest = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for rows, _ in postings:
        matched[rows] += 1
        rarest[rows] = np.maximum(rarest[rows], np.float32(math.log(1 + count / max(1, len(rows)))))
    return matched, rarest / np.float32(math.log(1 + count))


def is_superfluous(columns: Columns, matched: Floats, terms: int) -> NDArray[np.bool_]:
    """True for the user's own questions that are like the query, and for short answers that know nothing. `matched`:
    how many of the query's `terms` a row has."""
    from_user = columns["from_user"] > 0
    likeness = 2 * matched / np.maximum(columns["length"] - _DAY_TERMS + terms, 1)
    superfluous = np.zeros(len(matched), np.bool_)
    like = np.flatnonzero(from_user & (likeness >= _LIKE))
    asks = form_feature(columns["form"][like], "asks")
    superfluous[like] = (asks > 0) & (likeness[like] >= np.where(asks > _MOSTLY, _LIKE, _VERY_LIKE))
    short = np.flatnonzero(~from_user & (columns["tokens"] <= _SHORT_ANSWER))
    superfluous[short] = form_feature(columns["form"][short], "is_unsure") > 0
    return superfluous


def is_told(columns: Columns, allowed: NDArray[np.bool_], matched: Floats, terms: int) -> bool:
    """True if a short statement of the user has all of a query's `terms`: it is about what was told."""
    if terms < _TERMS_OF_A_SUBJECT:
        return False
    rows = np.flatnonzero(
        allowed & (matched >= terms) & (columns["from_user"] > 0) & (columns["tokens"] <= _SHORT_STATEMENT)
    )
    forms = columns["form"][rows]
    return bool(((form_feature(forms, "asks") == 0) & (form_feature(forms, "orders") == 0)).any())


def score_stretches(words: Sequence[Posting], stretch: NDArray[np.int32], lengths: Floats) -> Floats:
    """BM25 of each stretch of conversation, as if it were one text. `stretch`: the number of each row's; `lengths`: the
    terms of each."""
    postings: list[Posting] = []
    for rows, counts in words:
        by_stretch = np.bincount(stretch[rows], counts, len(lengths))
        holding = np.flatnonzero(by_stretch).astype(np.int32)
        postings.append((holding, by_stretch[holding].astype(np.float32)))
    scores, _ = bm25(postings, lengths, float(lengths.mean()), len(lengths))
    return scores
