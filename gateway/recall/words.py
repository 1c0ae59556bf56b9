"""Matches the words of a query with the rows of a working set. Pure: an index and arrays in, arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from gateway.recall.arrays import Bools, Floats
from gateway.recall.columns import Columns
from gateway.recall.rank import RawScores, bm25
from gateway.recall.relevance import Coverage, measure_coverage, score_segments
from gateway.recall.term_index import TermIndex, count_runs

__all__ = ["QueryMatches", "SetTotals", "WordMatches", "match_words"]


class SetTotals(NamedTuple):
    """The numbers of a set that BM25 needs: rows in use, their average length, and the length of each segment."""

    rows: int
    average_length: float
    segment_lengths: Floats


@dataclass(frozen=True, slots=True)
class WordMatches:
    """The matches of a query's words: scores without a cosine, and coverage. `revision`: of the set at that time."""

    raw: RawScores
    coverage: Coverage
    revision: int


@dataclass(frozen=True, slots=True)
class QueryMatches:
    """The matches of a query's words, the rows that it allows, and whether it repeats a statement (see `Match`)."""

    words: WordMatches
    allowed: Bools
    is_stated: bool


def match_words(
    index: TermIndex, terms: Sequence[str], columns: Columns, totals: SetTotals, revision: int
) -> WordMatches:
    """The matches of these terms, in the order of the query."""
    distinct = {term: place for place, term in enumerate(dict.fromkeys(terms))}
    hits = index.find(list(distinct))
    postings = count_runs(hits.places, hits.rows, len(distinct))
    pairs = index.find_pairs(hits, [(distinct[one], distinct[next_]) for one, next_ in dict.fromkeys(pairwise(terms))])
    lengths = columns["length"]
    words, most = bm25(postings, lengths, totals.average_length, totals.rows)
    by_pairs, _ = bm25(pairs, lengths, totals.average_length, totals.rows)
    segments = score_segments(postings, columns["segment"], totals.segment_lengths)
    raw = RawScores(words=words, pairs=by_pairs, segments=segments, cosine=None, most=most)
    return WordMatches(raw, measure_coverage(postings, index.opening_rows(hits), len(lengths)), revision)
