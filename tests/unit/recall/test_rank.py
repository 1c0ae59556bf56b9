import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.embedding.calibration import Calibration
from gateway.recall.rank import (
    Ranked,
    RankWeights,
    RawScores,
    SetArrays,
    bm25,
    outline_scores,
    rank,
    relativity,
    share_of_neighbours,
)
from gateway.recall.term_index import Postings

Floats = NDArray[np.float32]

PLAIN = RankWeights(cosine=1, neighbour=0, second_neighbour=0, segment_best=0, segment_words=0, price=0)
ALONE = RankWeights(neighbour=0, second_neighbour=0, segment_best=0)


def arrays(count: int, **columns: object) -> SetArrays:
    made = {
        "price": np.zeros(count, np.float32),
        "from_user": np.ones(count, np.float32),
        "is_long": np.zeros(count, np.bool_),
        "segment": np.zeros(count, np.int32),
        "before": np.arange(-1, count - 1, dtype=np.int32),
        "after": np.append(np.arange(1, count, dtype=np.int32), -1).astype(np.int32),
        "allowed": np.ones(count, np.bool_),
        "doubt": np.zeros(count, np.float32),
    }
    arrays = {**made, **{name: np.asarray(value) for name, value in columns.items()}}
    return SetArrays(**arrays)


def floats(*values: float) -> Floats:
    return np.asarray(values, np.float32)


def given(words: Floats, cosine: Floats | None = None, **parts: Floats) -> RawScores:
    pairs, segments = parts.get("pairs", np.zeros_like(words)), parts.get("segments", floats(0, 0))
    return RawScores(words=words, cosine=cosine, pairs=pairs, segments=segments)


def ranked_rows(columns: SetArrays, raw: RawScores, weights: RankWeights, limit: int) -> Ranked:
    outline = outline_scores(columns, raw, weights)
    return rank(columns, outline, share_of_neighbours(columns, outline.alone, weights), weights, limit)


def test_bm25_is_the_textbook_formula_with_rarity_to_the_power_of_one_and_a_half() -> None:
    lengths = floats(2, 4, 3)
    scores, most = bm25(Postings(np.asarray([0]), np.asarray([1], np.int32), floats(2), 1), lengths, 3.0, 3)
    rarity = math.log(1 + (3 - 1 + 0.5) / 1.5) ** 1.5
    assert scores == pytest.approx([0, rarity * 2.2 * 2 / (2 + 1.2 * (0.1 + 0.9 * 4 / 3)), 0])
    assert most == pytest.approx(rarity * 2.2)
    assert bm25(Postings(np.asarray([], np.intp), np.asarray([], np.int32), floats(), 0), lengths, 3.0, 3)[1] == 0


def test_words_and_meaning_are_added_after_standardising() -> None:
    ranked = ranked_rows(arrays(3), given(floats(0, 0, 9), floats(0.9, 0.1, 0.1)), PLAIN, 3)
    assert ranked.rows.tolist()[2] == 1
    assert sorted(ranked.scores, reverse=True) == ranked.scores.tolist()


def test_words_side_by_side_count_more() -> None:
    ranked = ranked_rows(arrays(2), given(floats(1, 1), pairs=floats(0, 1)), PLAIN, 2)
    assert ranked.rows.tolist() == [1, 0]


def test_what_is_said_round_a_memory_counts() -> None:
    found = given(floats(1, 1), segments=floats(0, 3))
    ranked = ranked_rows(arrays(2, segment=[0, 1], before=[-1, -1], after=[-1, -1]), found, RankWeights(), 2)
    assert ranked.rows.tolist() == [1, 0]


def test_a_neighbour_of_a_hit_outranks_a_stranger() -> None:
    ranked = ranked_rows(
        arrays(5, segment=[0, 0, 0, 1, 1], after=[1, 2, -1, 4, -1], before=[-1, 0, 1, -1, 3]),
        given(floats(9, 0, 0, 0, 0)),
        RankWeights(price=0, segment_best=0),
        5,
    )
    assert ranked.rows.tolist()[:3] == [0, 1, 2]


def test_a_long_answer_stands_alone() -> None:
    weights = RankWeights(price=0, segment_best=0, alone_penalty=0, from_user=0)
    ranked = ranked_rows(arrays(3, is_long=[False, True, False]), given(floats(9, 0, 0)), weights, 3)
    assert ranked.rows.tolist() == [0, 2, 1]


def test_of_two_equals_the_cheaper_goes_first() -> None:
    ranked = ranked_rows(arrays(2, price=[1.1, 0]), given(floats(1, 1)), ALONE, 2)
    assert ranked.rows.tolist() == [1, 0]


def test_of_two_equals_the_users_own_words_go_first() -> None:
    ranked = ranked_rows(arrays(2, from_user=[False, True]), given(floats(1, 1)), ALONE, 2)
    assert ranked.rows.tolist() == [1, 0]


def test_what_is_not_allowed_is_not_ranked() -> None:
    found = given(floats(9, 1, 5), floats(1, 0, 1))
    ranked = ranked_rows(arrays(3, allowed=[False, True, False]), found, PLAIN, 3)
    assert ranked.rows.tolist() == [1]


def test_relativity_lies_between_0_and_1_and_grows_with_words_and_meaning() -> None:
    scale = Calibration(unrelated=0.1, related=0.5)
    share = relativity(floats(0, 1, 4), 4, floats(0.1, 0.3, 0.5), scale)
    assert all(0 <= one <= 1 for one in share)
    assert sorted(share) == share.tolist()
    assert share[0] < 0.1
    assert share[1] > 0.45
    assert relativity(floats(0), 0, None, scale)[0] < 0.45 < relativity(floats(4), 4, None, scale)[0]


def test_relativity_is_the_same_on_another_embedders_scale() -> None:
    one = relativity(floats(0, 0), 1, floats(0.1, 0.5), Calibration(unrelated=0.1, related=0.5))
    other = relativity(floats(0, 0), 1, floats(0.8, 0.9), Calibration(unrelated=0.8, related=0.9))
    assert one == pytest.approx(other, abs=1e-4)


def test_what_reads_like_an_instruction_is_ranked_down() -> None:
    found = given(floats(2, 2, 0, 0), floats(0.5, 0.5, 0.1, 0.1))
    far = np.full(4, -1, np.int32)
    columns = {"doubt": floats(1, 0, 0, 0), "before": far, "after": far}
    assert ranked_rows(arrays(4, **columns), found, RankWeights(), 4).rows.tolist()[0] == 1


def test_a_match_weighs_the_same_however_many_rows_do_not_match() -> None:
    def parts(count: int) -> list[float]:
        words = np.zeros(count, np.float32)
        words[:3] = (9, 6, 3)
        ranked = ranked_rows(arrays(count, before=np.full(count, -1), after=np.full(count, -1)), given(words), ALONE, 3)
        assert ranked.rows.tolist() == [0, 1, 2]
        return [float(value) for value in ranked.scores - ranked.scores[2]]

    assert parts(10_000) == pytest.approx(parts(600), rel=0.01)
    assert parts(10_000)[0] > 1
