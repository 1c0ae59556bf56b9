import numpy as np

from gateway.recall.relevance import is_empty_talk, lift, measure_coverage, score_segments
from gateway.recall.term_index import Postings, TermIndex, count_runs
from gateway.text.form import read_form

TEXTS = [["dog"], ["cat", "dog"], ["dog"], ["bird"]]


def test_coverage_counts_terms_and_knows_the_rarest() -> None:
    index = TermIndex()
    index.add(0, TEXTS)
    hits = index.find(["dog", "cat"])
    coverage = measure_coverage(count_runs(hits.places, hits.rows, 2), index.opening_rows(hits), 4)
    assert coverage.matched.tolist() == [1, 2, 1, 0]
    assert coverage.rarest[1] == 1
    assert coverage.rarest[1] > coverage.rarest[0] > coverage.rarest[3] == 0
    assert coverage.opens.tolist() == [True, True, True, False]


def test_a_correction_is_at_least_as_relevant_as_what_it_corrects() -> None:
    relevance = np.asarray([0.9, 0.2], np.float32)
    assert lift(relevance, np.asarray([[1, 0]], np.int32)).tolist() == [np.float32(0.9), np.float32(0.9)]


def test_a_stretch_counts_as_one_text() -> None:
    rows, once = np.asarray([0, 1], np.int32), np.ones(2, np.float32)
    postings = Postings(np.zeros(2, np.intp), rows, once, 1)
    scores = score_segments(postings, np.asarray([0, 1, 1], np.int32), np.asarray([5, 5], np.float32))
    assert scores[0] == scores[1] > 0


def test_a_stretch_holds_a_term_as_often_as_all_its_messages_do() -> None:
    rows, counts = np.asarray([0, 1, 2, 0], np.int32), np.asarray([1, 2, 1, 3], np.float32)
    postings = Postings(np.asarray([0, 0, 0, 1]), rows, counts, 2)
    joined = Postings(np.asarray([0, 0, 1]), np.asarray([0, 1, 1], np.int32), np.asarray([2, 2, 3], np.float32), 2)
    lengths = np.asarray([5, 6], np.float32)
    by_row = score_segments(postings, np.asarray([1, 0, 1], np.int32), lengths)
    assert by_row.tolist() == score_segments(joined, np.arange(2, dtype=np.int32), lengths).tolist()


def test_talk_that_says_nothing() -> None:
    reaction, unsure = read_form("Thanks!").packed(), read_form("I don't know your name.").packed()
    forms = np.asarray([reaction, unsure, unsure, unsure])
    tokens = np.asarray([3, 9, 9, 90], np.int32)
    from_user = np.asarray([1, 0, 1, 0], np.float32)
    assert is_empty_talk(tokens, from_user, forms).tolist() == [True, True, False, False]
