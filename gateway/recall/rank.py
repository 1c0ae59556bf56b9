"""From scores of single memories to an order. Pure: arrays in, arrays out.

The method, in the order of its steps: BM25 and cosine, each standardised over the whole set and added (fusing ranks
would throw the gaps between scores away); a memory gains from its neighbours in the conversation and from the best of
its session; a memory pays for its length. Long answers stand alone, since they are neighbours of everything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RankWeights", "SetArrays", "bm25", "rank", "relativity"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

_K1 = 1.2  # Robertson & Zaragoza 2009, the usual values
_B = 0.75
_CLEARLY = 0.01  # by which what corrects a memory stands before it


@dataclass(frozen=True, slots=True)
class RankWeights:
    """The weights of the steps; chosen on conversations in English and Chinese."""

    cosine: float = 0.8
    neighbour: float = 0.5
    second_neighbour: float = 0.25
    session: float = 0.2
    price: float = 1.0
    price_free_tokens: float = 30.0
    alone_tokens: int = 100
    alone_penalty: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetArrays:
    """The columns of a working set that ranking needs; all of length n.

    `before` and `after` are row numbers of the neighbours within the session, -1 where there is none. `outranks` holds
    pairs of rows: the first corrects the second.
    """

    tokens: Ints
    from_user: Bools
    session: Ints
    before: Ints
    after: Ints
    allowed: Bools
    outranks: Sequence[tuple[int, int]] = ()


def bm25(
    postings: Iterable[tuple[float, Ints, Floats]], lengths: Floats, average_length: float, count: int
) -> tuple[Floats, float]:
    """BM25 of each row and the most that any could reach. `postings`: idf, rows, term frequencies of a query term."""
    scores = np.zeros(count, np.float32)
    most = 0.0
    norms = _K1 * (1 - _B + _B * lengths / max(average_length, 1e-6))
    for idf, rows, frequencies in postings:
        most += idf * (_K1 + 1)
        scores[rows] += idf * (_K1 + 1) * frequencies / (frequencies + norms[rows])
    return scores, most


def relativity(lexical: Floats, most: float, cosine: Floats | None) -> Floats:
    """Relevance, 0–1: 0.45 is where a person would say "relevant".

    Words: the share of what the query's words could score at most. Vectors: a logistic step round the cosine at which
    sentences of the embedded model begin to be about the same thing. Either suffices.
    """
    words = np.clip(lexical / most, 0, 1) if most > 0 else np.zeros_like(lexical)
    words = np.sqrt(words)
    if cosine is None:
        return words
    meaning = 1 / (1 + np.exp((0.42 - cosine) / 0.07))
    return np.asarray(1 - (1 - words) * (1 - meaning), np.float32)


def rank(
    arrays: SetArrays, lexical: Floats, cosine: Floats | None, weights: RankWeights, limit: int
) -> tuple[Ints, Floats]:
    """The best `limit` allowed rows, best first, and their scores."""
    count = int(arrays.allowed.sum())
    if not count:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    scores = _standardise(lexical, arrays.allowed)
    if cosine is not None:
        scores = scores + weights.cosine * _standardise(cosine, arrays.allowed)
    scores = _with_neighbours(scores, arrays, weights)
    scores += weights.session * _best_of_session(scores, arrays)
    scores -= weights.price * np.log(np.maximum(arrays.tokens, 1) / weights.price_free_tokens)
    scores[~arrays.allowed] = -np.inf
    for correction, corrected in arrays.outranks:
        if arrays.allowed[correction] and scores[corrected] >= scores[correction]:
            scores[correction] = scores[corrected] + _CLEARLY
    limit = min(limit, count)
    best = np.argpartition(-scores, limit - 1)[:limit] if limit < len(scores) else np.arange(len(scores))
    best = best[np.argsort(-scores[best], kind="stable")][:limit]
    return best.astype(np.int32), scores[best].astype(np.float32)


def _standardise(values: Floats, allowed: Bools) -> Floats:
    chosen = values[allowed]
    deviation = float(chosen.std())
    if deviation < 1e-9:
        return np.zeros_like(values)
    return np.asarray((values - chosen.mean()) / deviation, np.float32)


def _with_neighbours(scores: Floats, arrays: SetArrays, weights: RankWeights) -> Floats:
    takes_part = arrays.allowed & (arrays.from_user | (arrays.tokens <= weights.alone_tokens))
    given = np.append(np.where(takes_part, scores, 0), np.float32(0))  # row -1: nobody
    links = np.append(arrays.before, -1), np.append(arrays.after, -1)
    gained = weights.neighbour * (given[arrays.before] + given[arrays.after])
    gained += weights.second_neighbour * (given[links[0][arrays.before]] + given[links[1][arrays.after]])
    return np.asarray(np.where(takes_part, scores + gained, scores - weights.alone_penalty), np.float32)


def _best_of_session(scores: Floats, arrays: SetArrays) -> Floats:
    best = np.full(int(arrays.session.max()) + 1, -np.inf, np.float32)
    np.maximum.at(best, arrays.session[arrays.allowed], scores[arrays.allowed])
    gained = best[arrays.session]
    gained[~np.isfinite(gained)] = 0
    return gained
