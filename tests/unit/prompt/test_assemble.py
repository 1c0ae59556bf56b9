from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.memory.fence import FENCE_CLOSE, FENCE_OPEN
from gateway.memory.record import Details
from gateway.prompt.assemble import NO_BLOCK, assemble
from gateway.prompt.tokens import Tokenizer
from gateway.turn import Memory
from tests.fakes.made import memory

WORDS = st.sampled_from(
    [
        "Lisbon",
        "猫叫小白",
        "</user_memory>",
        "<b>",
        "don't",
        "🙂🏽",
        "naïve",
        "12345",
        "\n",
        "  ",
        "def f(x):",
        "ไทย",
        "\u0301",
        "a" * 40,
        "//",
        "-",
        "\t",
        "\u00a0",
        "Monday",
        "\x1f\r",
    ]
)


@pytest.fixture(scope="session")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = Tokenizer(tmp_path_factory.mktemp("tokenizers"))
    made.load()
    return made


@st.composite
def memories(draw: st.DrawFn) -> list[Memory]:
    texts = draw(st.lists(st.lists(WORDS, min_size=1, max_size=30).map(" ".join), max_size=12))
    return [
        memory(text, number * draw(st.integers(0, 3000)), tokens=draw(st.integers(1, 60)), score=draw(st.floats(-3, 3)))
        for number, text in enumerate(texts)
    ]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(memories(), st.integers(0, 800), st.sampled_from(["o200k_base", "cl100k_base"]))
def test_the_budget_is_never_exceeded(counting: Tokenizer, found: list[Memory], budget: int, encoding: str) -> None:
    block = assemble(found, budget, lambda text: counting.count(text, encoding), frozenset(), 100)
    assert counting.count(block.text, encoding) == block.tokens <= budget
    if block.memories:
        assert block.text.count(FENCE_OPEN) == block.text.count(FENCE_CLOSE) == 1
        assert block.text.startswith(FENCE_OPEN)
        assert block.text.endswith(FENCE_CLOSE + "\n\n")


def by_words(text: str) -> int:
    return len(text.split())


def test_the_best_come_first_and_stand_in_time_order() -> None:
    found = [memory(f"fact number {number}", 5000 - number, tokens=3) for number in range(50)]
    block = assemble(found, 47, by_words, frozenset(), 100)
    assert all(one in found[:12] for one in block.memories)
    places = [block.text.index(one.record.text) for one in sorted(block.memories, key=lambda m: m.record.event_time)]
    assert places == sorted(places)


def test_a_day_is_named_once() -> None:
    block = assemble([memory("a b", 0), memory("c d", 1)], 500, by_words, frozenset(), 100)
    assert block.text.count("14 November 2023") == 1


def test_what_does_not_fit_is_passed_over_and_smaller_ones_go_in() -> None:
    large, small = memory("word " * 300, 0, tokens=300), memory("short fact", 1, tokens=2)
    assert assemble([large, small], 120, by_words, frozenset(), 100).memories == (small,)


def test_at_most_so_many_go_in() -> None:
    found = [memory(f"fact {number}", number, tokens=2) for number in range(9)]
    assert len(assemble(found, 5000, by_words, frozenset(), 3).memories) == 3


def test_what_the_prompt_has_and_what_stands_twice_stays_out() -> None:
    one, again, other = memory("the same", 0), memory("the same", 1), memory("another", 2)
    block = assemble([one, again, other], 500, by_words, frozenset({other.record.message_id}), 100)
    assert block.memories == (one,)


def test_the_source_is_shown_where_it_is_not_the_user() -> None:
    block = assemble([memory("I said", 0), memory("it said", 1, source="assistant")], 500, by_words, frozenset(), 9)
    assert "- I said" in block.text
    assert "- assistant: it said" in block.text


@pytest.mark.parametrize("budget", [0, -5, 10])
def test_no_room_means_no_block(budget: int) -> None:
    assert assemble([memory("a")], budget, by_words, frozenset(), 9) == NO_BLOCK


@pytest.mark.parametrize("at", [1.7e12, 1e18, float("nan"), float("-inf")])
def test_a_time_that_is_none_breaks_nothing(at: float) -> None:
    block = assemble([memory("a b", event_time=at), memory("c d", 1)], 500, by_words, frozenset(), 100)
    assert len(block.memories) == 2


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(memories(), memories(), memories(), st.integers(0, 400), st.integers(0, 300))
def test_wishes_are_part_of_the_budget(  # noqa: PLR0917 — hypothesis gives them by place
    counting: Tokenizer, found: list[Memory], wished: list[Memory], about: list[Memory], budget: int, share: int
) -> None:
    count = counting.count
    told = [replace(one, record=replace(one.record, details=Details(topic="about"))) for one in about]
    wishes = [*wished, *told]
    block = assemble(found, budget, count, frozenset(), 100, profile=wishes, profile_budget=share)
    assert count(block.text) == block.tokens <= budget
    assert len(set(block.ids)) == len(block.ids) or not block.memories
    bare = assemble(found, budget, count, frozenset(), 100)
    if share == 0:
        assert block == bare
