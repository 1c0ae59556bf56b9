import numpy as np

from gateway.recall.columns import make_columns
from gateway.recall.term_index import TermIndex
from gateway.recall.words import SetTotals, match_words

TEXTS = [["red", "tea"], ["tea", "red"], ["green", "tea", "green", "tea"], ["rain"]]


def test_words_and_pairs_of_a_query_are_matched_at_once() -> None:
    index, columns = TermIndex(), make_columns()
    columns["length"][:4] = index.add(0, TEXTS)
    columns["segment"][:4] = [0, 0, 1, 1]
    rows = {name: column[:4] for name, column in columns.items()}
    matches = match_words(index, ("red", "tea", "red", "tea"), rows, SetTotals(4, 2.25, np.asarray([4, 5])), 7)
    assert matches.revision == 7
    assert (matches.raw.words > 0).tolist() == [True, True, True, False]
    assert (matches.raw.pairs > 0).tolist() == [True, True, False, False]
    assert matches.raw.words.max() < matches.raw.most
    assert matches.raw.segments[0] > matches.raw.segments[1] > 0
    assert matches.coverage.matched.tolist() == [2, 2, 1, 0]


def test_without_words_nothing_matches() -> None:
    index, columns = TermIndex(), make_columns()
    index.add(0, TEXTS)
    rows = {name: column[:4] for name, column in columns.items()}
    matches = match_words(index, (), rows, SetTotals(4, 2.25, np.asarray([4, 5], np.float32)), 0)
    assert not matches.raw.words.any()
    assert not matches.raw.segments.any()
    assert matches.raw.most == 0
