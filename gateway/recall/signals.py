"""The signals of each candidate of a search, as one row of numbers: the input of the learned order. Pure.

All of them come from arrays that the search has anyway: parts of the score, relevance of the memory and of its
neighbours, forms of the texts, worth, lengths and places.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.memory.recalled import SCORE_PARTS
from gateway.recall.arrays import Floats, Ints
from gateway.recall.probes import RequestProbes
from gateway.recall.query import Query
from gateway.recall.rank import Ranked, SetArrays
from gateway.text.form import FEATURES, FORM_BITS, FORM_LEVELS

__all__ = [
    "NO_CANDIDATES",
    "SIGNALS",
    "Candidates",
    "Evidence",
    "Match",
    "ScoredRows",
    "form_feature",
    "form_matrix",
    "linked_places",
    "measure_match",
    "pairs_of_places",
    "requests_of",
    "signal_matrix",
]


_PIECES = 6  # of a long answer
_LOGIT_LIMIT = 6.0
_QUERY = tuple(f"query {name}" for name in (*FEATURES, "tokens", "terms"))
_OWN = tuple(f"own {name}" for name in FEATURES)
_ASKED = ("orders", "asks", "tells", "has_self", "mine", "opens_with_order", "code", "reaction")
_BEFORE = tuple(f"before {name}" for name in _ASKED)
_SINGLE = (
    "gap", "rank", "relevance", "words share", "cosine", "context", "context gap", "from user", "is long", "tokens",
    "worth", "rank by words", "rank by meaning", "likeness", "matched", "rarest", "answer unsure",
    "has before", "is learnt", "after cosine", "before cosine", "metric", "memory probe", "opens", "request words",
    "request cosine",
)  # fmt: skip
SIGNALS: Final = (*SCORE_PARTS, *_SINGLE, *_OWN, *_BEFORE, *_QUERY)
"""Names of the columns of a signal matrix."""
_NO_PAIRS: Final = np.zeros((0, 2), np.int32)
_ASKED_PLACES = np.asarray([FEATURES.index(name) for name in _ASKED], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence for each row of a set beside its score; arrays of length n, the number of rows.

    `relevance`: 0–1. `words_share`: BM25 of the words, as a share of the most. `cosine`: on the embedder's scale, 0
    unrelated, 1 related (None without a vector). `forms`: packed. `matched`: how many of the query's distinct terms a
    row has. `rarest`: the inverse frequency of the rarest of them, as a share of the query's rarest. `opens`: True for
    rows that begin with a term of the query.
    """

    relevance: Floats
    words_share: Floats
    cosine: Floats | None
    forms: NDArray[np.int64]
    worth: Floats
    lengths: Floats
    matched: Floats
    rarest: Floats
    opens: NDArray[np.bool_]
    is_extracted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Ranked rows with the outputs of the probes, shape (rows, 2), and for each row that is an answer the row of the
    user's message that it answers (else its own)."""

    ranked: Ranked
    probed: Floats
    requests: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How well a query matches a whole memory: the best values over the rows whose worth is over 0 (probably personal,
    no tasks). `best_cosine` is on the embedder's scale, `best_word_share` a share. `request`: the outputs of the probes
    of requests; None without them. `is_stated`: a short statement of the user contains every term of the query."""

    best_cosine: float = 0.0
    best_relevance_logit: float = -_LOGIT_LIMIT
    best_word_share: float = 0.0
    rarest: float = 0.0
    request: RequestProbes | None = None
    is_stated: bool = False


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows, best first; their relevance, 0–1, and tokens; their signals, shape (rows, len(SIGNALS)); and how the query
    matches all rows.

    `corrections` and `conclusions` are pairs of places among the rows, shape (m, 2): the first corrects the second, and
    precedes it; the first was concluded from the second, and follows the best of these. `answers`: the same, where the
    first is (a piece of) the answer to the second.
    """

    ranked: Ranked
    relevance: Floats
    tokens: Ints
    signals: Floats
    match: Match
    corrections: Ints = field(default_factory=lambda: _NO_PAIRS)
    conclusions: Ints = field(default_factory=lambda: _NO_PAIRS)
    answers: Ints = field(default_factory=lambda: _NO_PAIRS)

    def __len__(self) -> int:
        return len(self.tokens)


_NO_VALUES: Final = np.zeros(0, np.float32)
NO_CANDIDATES: Final = Candidates(
    Ranked(np.zeros(0, np.int32), _NO_VALUES, np.zeros((0, len(SCORE_PARTS)), np.float32)),
    _NO_VALUES,
    np.zeros(0, np.int32),
    np.zeros((0, len(SIGNALS)), np.float32),
    Match(),
)


def pairs_of_places(pairs: Ints | None, rows: Ints) -> Ints:
    """Pairs of rows as pairs of their places among `rows`; those that are not there are left out."""
    if pairs is None or not len(pairs) or not len(rows):
        return _NO_PAIRS
    place_of = np.full(max(int(rows.max()), int(pairs.max())) + 1, -1, np.int32)
    place_of[rows] = np.arange(len(rows), dtype=np.int32)
    places = place_of[pairs]
    return places[(places[:, 0] >= 0) & (places[:, 1] >= 0)]


def linked_places(rows: Ints, requests: Ints, arrays: SetArrays) -> tuple[Ints, Ints, Ints]:
    """The corrections, conclusions and answers among ranked rows; see `Candidates`."""
    answers = np.stack([rows, requests], axis=1)[rows != requests]
    corrections, conclusions = pairs_of_places(arrays.outranks, rows), pairs_of_places(arrays.conclusions, rows)
    return corrections, conclusions, pairs_of_places(answers, rows)


def measure_match(
    evidence: Evidence, allowed: NDArray[np.bool_], request: RequestProbes | None, *, is_stated: bool
) -> Match:
    """See `Match`."""
    worthy = allowed & (evidence.worth > 0)
    cosine = evidence.cosine

    def best(values: Floats) -> float:
        return float((values * worthy).max(initial=0))  # faster than a maximum over a mask

    return Match(
        best_cosine=0.0 if cosine is None else best(cosine),
        best_relevance_logit=max(-_LOGIT_LIMIT, float(_logit(np.float32(best(evidence.relevance))))),
        best_word_share=best(evidence.words_share),
        rarest=best(evidence.rarest),
        request=request,
        is_stated=is_stated,
    )


def form_matrix(packed: NDArray[np.int64]) -> Floats:
    """Packed forms as features, shape (n, features); zeros where a form is not known."""
    return _unpacked(packed[:, None], np.arange(len(FEATURES), dtype=np.int64))


def form_feature(packed: NDArray[np.int64], name: str) -> Floats:
    """One feature of packed forms; zeros where a form is not known."""
    return _unpacked(packed, FEATURES.index(name))


def _unpacked(packed: NDArray[np.int64], feature: NDArray[np.int64] | int) -> Floats:
    """Features by number; the arrays are broadcast."""
    forms = np.where(packed < 0, 0, packed)
    return ((forms >> (feature * FORM_BITS)) & FORM_LEVELS).astype(np.float32) * np.float32(1 / FORM_LEVELS)


def signal_matrix(scored: ScoredRows, arrays: SetArrays, evidence: Evidence, query: Query, terms: int) -> Floats:
    """Shape (rows, len(SIGNALS)), in the order of the ranking. `terms`: how many distinct ones the query has."""
    ranked, requests = scored.ranked, scored.requests
    rows, count = ranked.rows, len(ranked.rows)
    before, after = arrays.before[rows], arrays.after[rows]
    has_before, has_after = before >= 0, after >= 0
    logits = _logit(evidence.relevance[rows])
    context = _context(logits, evidence.relevance, before, after)
    best = float(_logit(evidence.relevance.max(initial=0)))
    cosine = np.zeros(len(evidence.relevance), np.float32) if evidence.cosine is None else evidence.cosine
    single = (
        (ranked.scores[0] - ranked.scores) / 5 if count else ranked.scores,
        np.log1p(np.arange(count, dtype=np.float32)),
        logits,
        evidence.words_share[rows],
        cosine[rows],
        context,
        max(best, -_LOGIT_LIMIT) - context,
        arrays.from_user[rows],
        arrays.is_long[rows],
        arrays.price[rows],
        evidence.worth[rows],
        _log_ranks(evidence.words_share[rows]),
        _log_ranks(cosine[rows]),
        2 * evidence.matched[rows] / np.maximum(evidence.lengths[rows] + terms, 1),
        evidence.matched[rows] / max(terms, 1),
        evidence.rarest[rows],
        form_feature(evidence.forms[after], "is_unsure") * has_after,
        has_before,
        evidence.is_extracted[rows],
        cosine[after] * has_after,
        cosine[before] * has_before,
        scored.probed[:, 0],
        scored.probed[:, 1],
        evidence.opens[rows],
        evidence.words_share[requests],
        cosine[requests],
    )
    signals = np.empty((count, len(SIGNALS)), np.float32)
    signals[:, : len(SCORE_PARTS)] = ranked.parts
    for place, column in enumerate(single, len(SCORE_PARTS)):
        signals[:, place] = column
    begin = len(SCORE_PARTS) + len(_SINGLE)
    signals[:, begin : begin + len(_OWN)] = form_matrix(evidence.forms[rows])
    begin += len(_OWN)
    earlier = _unpacked(evidence.forms[before][:, None], _ASKED_PLACES)
    signals[:, begin : begin + len(_BEFORE)] = earlier * has_before[:, None]
    signals[:, begin + len(_BEFORE) :] = _query_signals(query, terms)
    return signals


def requests_of(rows: Ints, arrays: SetArrays) -> Ints:
    """See `ScoredRows`."""
    requests = rows
    for _ in range(_PIECES):
        earlier = arrays.before[requests]
        is_piece = (arrays.from_user[requests] == 0) & (earlier >= 0)
        if not is_piece.any():
            break
        requests = np.where(is_piece, earlier, requests)
    return np.where(arrays.from_user[requests] > 0, requests, rows)


def _context(logits: Floats, relevance: Floats, before: Ints, after: Ints) -> Floats:
    """The greater of the relevance of each row and of its neighbours, as log-odds."""
    of_neighbours = np.maximum(
        np.where(before >= 0, _logit(relevance[before]), -_LOGIT_LIMIT),
        np.where(after >= 0, _logit(relevance[after]), -_LOGIT_LIMIT),
    )
    return np.asarray(np.maximum(logits, of_neighbours), np.float32)


def _query_signals(query: Query, terms: int) -> Floats:
    form = [getattr(query.form, name) for name in FEATURES]
    return np.asarray([*form, np.log1p(query.tokens) / 3, terms / 10], np.float32)


def _logit(shares: Floats | np.float32) -> Floats:
    bounded = np.clip(shares, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float32)


def _log_ranks(values: Floats) -> Floats:
    """ln(1 + place) of each value, the largest first."""
    places = np.empty(len(values), np.float32)
    places[np.argsort(-values, kind="stable")] = np.arange(len(values), dtype=np.float32)
    return np.asarray(np.log1p(places), np.float32)
