import numpy as np

from gateway.recall.relevance import lift, measure_coverage, score_segments
from gateway.recall.term_index import TermIndex

TEXTS = [["dog"], ["cat", "dog"], ["dog"], ["bird"]]


def posting(*rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(rows, np.int32), np.ones(len(rows), np.float32)


def test_coverage_counts_terms_and_knows_the_rarest() -> None:
    index = TermIndex()
    index.add(0, TEXTS)
    postings = [index.rows_of(term) for term in ("dog", "cat")]
    coverage = measure_coverage(index, ("dog", "cat"), postings, 4)
    assert coverage.matched.tolist() == [1, 2, 1, 0]
    assert coverage.rarest[1] == 1
    assert coverage.rarest[1] > coverage.rarest[0] > coverage.rarest[3] == 0
    assert coverage.opens.tolist() == [True, True, True, False]


def test_a_correction_is_at_least_as_relevant_as_what_it_corrects() -> None:
    relevance = np.asarray([0.9, 0.2], np.float32)
    rows, pairs = np.asarray([4, 7], np.int32), np.asarray([[7, 4]], np.int32)
    assert lift(relevance, rows, pairs).tolist() == [np.float32(0.9), np.float32(0.9)]


def test_a_stretch_counts_as_one_text() -> None:
    scores = score_segments([posting(0, 1)], np.asarray([0, 1, 1], np.int32), np.asarray([5, 5], np.float32))
    assert scores[0] == scores[1] > 0
