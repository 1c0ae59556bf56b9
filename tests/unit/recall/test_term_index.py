from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.recall.term_index import Postings, TermIndex, count_runs

TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=8), max_size=30)


def held(index: TermIndex, term: str) -> dict[int, int]:
    hits = index.find([term])
    return as_dict(count_runs(hits.places, hits.rows, 1), 0)


def as_dict(postings: Postings, place: int) -> dict[int, int]:
    own = postings.places == place
    return dict(zip(postings.rows[own].tolist(), postings.counts[own].tolist(), strict=True))


PAIRS = [("a", "b"), ("b", "b"), ("e", "a"), ("a", "z"), ("z", "a"), ("z", "z")]


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_it_finds_what_counting_would_find(groups: list[list[list[str]]]) -> None:
    index, texts = TermIndex(), list[list[str]]()
    for group in groups:
        lengths = index.add(len(texts), group)
        assert lengths.tolist() == [len(text) for text in group]
        texts += group
        hits = index.find("abcdez")
        postings = count_runs(hits.places, hits.rows, 6)
        for place, term in enumerate("abcdez"):
            expected = {row: text.count(term) for row, text in enumerate(texts) if term in text}
            assert as_dict(postings, place) == expected
        pairs = [Counter(pairwise(text)) for text in texts]
        adjacent = index.find_pairs(hits, [("abcdez".index(one), "abcdez".index(other)) for one, other in PAIRS])
        for place, pair in enumerate(PAIRS):
            expected = {row: counted[pair] for row, counted in enumerate(pairs) if pair in counted}
            assert as_dict(adjacent, place) == expected


def test_it_stays_right_while_it_is_put_in_order_again_and_again() -> None:
    index = TermIndex()
    for row in range(3000):
        index.add(row, [[f"t{row % 7}", f"t{row % 11}", "all"]])
        if row % 500 == 0:
            assert len(held(index, "all")) == row + 1
    assert list(held(index, "t3")) == [row for row in range(3000) if 3 in (row % 7, row % 11)]
    twice = index.find_pairs(index.find(["t3"]), [(0, 0)])
    assert twice.rows.tolist() == [row for row in range(3000) if row % 7 == 3 == row % 11]
    assert index.nbytes > 3000 * 3 * 12


def test_rows_that_begin_with_a_term() -> None:
    index = TermIndex()
    index.add(0, [["anna", "likes", "tea"], ["tea", "for", "anna"], [], ["anna"]])
    assert index.opening_rows(index.find(["anna"])).tolist() == [0, 3]
    assert index.opening_rows(index.find(["tea", "coffee"])).tolist() == [1]
    assert index.opening_rows(index.find(["coffee"])).tolist() == []
