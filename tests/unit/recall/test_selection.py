from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.recall.probes import RequestProbes
from gateway.recall.query import make_query
from gateway.recall.rank import Ranked
from gateway.recall.selection import estimate_need, least_need, order_log_odds, probabilities, select, thresholds
from gateway.recall.signals import NO_CANDIDATES, SIGNALS, Candidates, Match
from gateway.turn import SCORE_PARTS

NOW = 1_790_000_000.0
NOTHING = np.zeros(0, np.float32)


def candidates(count: int) -> Candidates:
    scores, parts = np.zeros(count, np.float32), np.zeros((count, len(SCORE_PARTS)), np.float32)
    ranked = Ranked(np.arange(count, dtype=np.int32), scores, parts)
    tokens, signals = np.full(count, 100, np.int32), np.zeros((count, len(SIGNALS)), np.float32)
    return Candidates(ranked, scores, tokens, signals, Match())


def test_the_more_selective_the_less_is_injected() -> None:
    limits = [thresholds(share / 10) for share in range(11)]
    for name in ("need", "each"):
        values = [getattr(limit, name) for limit in limits]
        assert values == sorted(values)
    assert [limit.tokens for limit in limits] == sorted((limit.tokens for limit in limits), reverse=True)
    assert limits[0].need == limits[0].each == 0
    assert limits[-1].need < 1


def test_memories_are_added_until_they_take_what_a_question_needs() -> None:
    query = make_query("Where does my sister live?", "", NOW)
    limits = replace(thresholds(0.5), need=0.0, each=0.0, tokens=300)
    selection = select(candidates(10), query, limits)
    assert (len(selection.chosen), len(selection.left)) == (3, 7)


def test_a_request_that_needs_no_memory_gets_none() -> None:
    query = make_query("Write a regex.", "", NOW)
    selection = select(candidates(3), query, replace(thresholds(0.5), need=1.1))
    assert (len(selection.chosen), len(selection.left)) == (0, 3)
    assert 0 <= selection.need.probability <= 1


def test_without_candidates_nothing_is_chosen() -> None:
    selection = select(NO_CANDIDATES, make_query("Where do I live?", "", NOW), thresholds(0.5))
    assert len(selection.chosen) == len(selection.left) == 0


@pytest.mark.parametrize("request_probe", [None, RequestProbes(0.0, 0.0)])
def test_questions_about_oneself_need_memory_more_than_tasks(request_probe: RequestProbes | None) -> None:
    match = Match(request=request_probe)
    asked = estimate_need(make_query("What is my sister's name?", "", NOW), match, NOTHING)
    task = estimate_need(make_query("Write a regex that matches postcodes.", "", NOW), match, NOTHING)
    assert asked.probability > task.probability
    assert asked.parts


def test_a_correction_stands_before_what_it_corrects_and_a_conclusion_behind_its_premise() -> None:
    signals = np.zeros((3, len(SIGNALS)), np.float32)
    signals[:, SIGNALS.index("rank")] = [0, 1, 2]
    signals[:, SIGNALS.index("gap")] = [0, 1, 2]
    found = replace(candidates(3), signals=signals)
    query, limits = make_query("Where does my sister live?", "", NOW), replace(thresholds(0.5), need=0.0, each=0.0)

    def order(other: Candidates) -> list[int]:
        return [int(place) for place in select(other, query, limits).chosen]

    free = order(found)
    pairs = np.asarray([[2, 0]], np.int32)
    corrected = order(replace(found, corrections=pairs))
    assert corrected.index(2) < corrected.index(0)
    concluded = order(replace(found, conclusions=pairs[:, ::-1]))
    assert concluded.index(2) < concluded.index(0)
    assert sorted(free) == sorted(corrected) == sorted(concluded)


def test_signals_that_are_not_known_count_as_usual() -> None:
    signals = np.zeros((1, len(SIGNALS)), np.float32)
    signals[0, SIGNALS.index("metric")] = np.nan
    assert 0 < probabilities(order_log_odds(signals))[0] < 1


def test_an_earlier_answer_is_as_probable_as_the_request_that_it_answers() -> None:
    probes = RequestProbes(0.0, 30.0)
    signals = np.zeros((3, len(SIGNALS)), np.float32)
    signals[:, SIGNALS.index("gap")] = [0, 1, 4]
    signals[:, SIGNALS.index("relevance")] = 4
    answers = np.asarray([[2, 0]], np.int32)
    found = replace(candidates(3), signals=signals, answers=answers, match=Match(request=probes))
    query, limits = (
        make_query("Show me the table that you made.", "", NOW),
        replace(thresholds(0.5), need=0.0, each=0.0),
    )
    selection = select(found, query, limits)
    assert int(selection.chosen[0]) == 2
    assert selection.need.probability > 0.9
    assert any(name == "earlier answer" for name, _ in selection.need.parts)


def test_what_is_far_less_probable_than_the_best_is_left_out() -> None:
    signals = np.zeros((5, len(SIGNALS)), np.float32)
    signals[1:, SIGNALS.index("gap")] = 40
    query, limits = make_query("Where does my sister live?", "", NOW), replace(thresholds(0.5), need=0.0, each=0.0)
    found = replace(candidates(5), signals=signals)
    assert len(select(found, query, limits).chosen) == 3, "the best few in any case"
    assert len(select(found, query, replace(limits, share=0.0, doubt=0.0)).chosen) == 5


@given(
    st.sampled_from(["Write a poem about rain.", "What is recursion?", "Fix this: ```x = 1```", "My cat?", "去哪里？"]),
    st.lists(st.floats(0, 1), max_size=5),
    st.builds(
        Match,
        best_relevance_logit=st.floats(-6, 6),
        best_word_share=st.floats(0, 1),
        rarest=st.floats(0, 1),
        is_stated=st.booleans(),
    ),
)
def test_the_least_need_is_never_above_the_need(text: str, chances: list[float], match: Match) -> None:
    query = make_query(text, "", NOW)
    need = estimate_need(query, match, np.asarray(chances, np.float32)).probability
    least = least_need(query, match).probability
    assert least_need(query).probability <= least + 1e-9
    assert least <= need + 1e-9
