from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.recall.term_index import TermIndex

TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=8), max_size=30)


def as_dict(found: tuple[object, object]) -> dict[int, int]:
    rows, counts = found
    return dict(zip(rows.tolist(), counts.tolist(), strict=True))  # type: ignore[attr-defined]  # two arrays


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_it_finds_what_counting_would_find(groups: list[list[list[str]]]) -> None:
    index, texts = TermIndex(), list[list[str]]()
    for group in groups:
        lengths = index.add(len(texts), group)
        assert lengths.tolist() == [len(text) for text in group]
        texts += group
        for term in "abcdez":
            expected = {row: text.count(term) for row, text in enumerate(texts) if term in text}
            assert as_dict(index.rows_of(term)) == expected
        pairs = [Counter(pairwise(text)) for text in texts]
        for pair in (("a", "b"), ("b", "b"), ("e", "a"), ("a", "z"), ("z", "a")):
            expected = {row: counted[pair] for row, counted in enumerate(pairs) if pair in counted}
            assert as_dict(index.rows_of_pair(*pair)) == expected


def test_it_stays_right_while_it_is_put_in_order_again_and_again() -> None:
    index = TermIndex()
    for row in range(3000):
        index.add(row, [[f"t{row % 7}", f"t{row % 11}", "all"]])
        if row % 500 == 0:
            assert len(index.rows_of("all")[0]) == row + 1
    assert index.rows_of("t3")[0].tolist() == [row for row in range(3000) if 3 in (row % 7, row % 11)]
    assert index.rows_of_pair("t3", "t3")[0].tolist() == [row for row in range(3000) if row % 7 == 3 == row % 11]
    assert index.nbytes > 3000 * 3 * 12


def test_rows_that_begin_with_a_term() -> None:
    index = TermIndex()
    index.add(0, [["anna", "likes", "tea"], ["tea", "for", "anna"], [], ["anna"]])
    assert index.rows_opening_with("anna").tolist() == [0, 3]
    assert index.rows_opening_with("tea").tolist() == [1]
    assert index.rows_opening_with("coffee").tolist() == []
