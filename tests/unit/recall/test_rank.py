import math

import numpy as np
import pytest

from gateway.recall.rank import RankWeights, SetArrays, bm25, rank, relativity

PLAIN = RankWeights(cosine=1, neighbour=0, second_neighbour=0, session=0, price=0)


def arrays(count: int, **columns: object) -> SetArrays:
    made = {
        "tokens": np.full(count, 30, np.int32),
        "from_user": np.ones(count, np.bool_),
        "session": np.zeros(count, np.int32),
        "before": np.arange(-1, count - 1, dtype=np.int32),
        "after": np.append(np.arange(1, count, dtype=np.int32), -1).astype(np.int32),
        "allowed": np.ones(count, np.bool_),
    }
    arrays = {**made, **{name: np.asarray(value) for name, value in columns.items()}}
    return SetArrays(**arrays)  # type: ignore[arg-type]  # the names say which is which


def floats(*values: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.asarray(values, np.float32)


def test_bm25_is_the_textbook_formula() -> None:
    lengths = floats(2, 4)
    postings = [(1.5, np.asarray([1], np.int32), floats(2))]
    scores, most = bm25(postings, lengths, 3.0, 2)
    expected = 1.5 * 2.2 * 2 / (2 + 1.2 * (0.25 + 0.75 * 4 / 3))
    assert scores == pytest.approx([0, expected])
    assert most == pytest.approx(1.5 * 2.2)


def test_words_and_meaning_are_added_after_standardising() -> None:
    rows, scores = rank(arrays(3), floats(0, 0, 9), floats(0.9, 0.1, 0.1), PLAIN, 3)
    assert rows.tolist()[2] == 1
    assert sorted(scores, reverse=True) == scores.tolist()


def test_a_neighbour_of_a_hit_outranks_a_stranger() -> None:
    weights = RankWeights(price=0, session=0)
    rows, _ = rank(
        arrays(5, session=[0, 0, 0, 1, 1], after=[1, 2, -1, 4, -1], before=[-1, 0, 1, -1, 3]),
        floats(9, 0, 0, 0, 0),
        None,
        weights,
        5,
    )
    assert rows.tolist()[:3] == [0, 1, 2]


def test_a_long_answer_stands_alone() -> None:
    weights = RankWeights(price=0, session=0, alone_penalty=0)
    rows, _ = rank(arrays(3, from_user=[True, False, True], tokens=[30, 500, 30]), floats(9, 0, 0), None, weights, 3)
    assert rows.tolist()[0] == 0
    assert rows.tolist()[1] == 2


def test_of_two_equals_the_cheaper_goes_first() -> None:
    rows, _ = rank(arrays(2, tokens=[90, 30]), floats(1, 1), None, RankWeights(neighbour=0), 2)
    assert rows.tolist() == [1, 0]


def test_what_is_not_allowed_is_not_ranked() -> None:
    rows, _ = rank(arrays(3, allowed=[False, True, False]), floats(9, 1, 5), floats(1, 0, 1), PLAIN, 3)
    assert rows.tolist() == [1]
    nothing, _ = rank(arrays(1, allowed=[False]), floats(1), None, PLAIN, 3)
    assert nothing.tolist() == []


def test_relativity_lies_between_0_and_1_and_grows() -> None:
    share = relativity(floats(0, 1, 4), 4, floats(0.1, 0.42, 0.9))
    assert all(0 <= one <= 1 for one in share)
    assert sorted(share) == share.tolist()
    assert share[0] < 0.45 < share[1]
    assert math.isclose(relativity(floats(4), 4, None)[0], 1)
    assert relativity(floats(0), 0, None)[0] == 0
