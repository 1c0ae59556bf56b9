import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.think import ThinkSplitter, split_think


def joined(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
    said = [one for piece in pieces for one in splitter.feed(piece)] + splitter.end()
    return tuple(
        "".join(text for kind, text in said if kind == recall_options) for recall_options in ("reasoning", "text")
    )  # type: ignore[return-value]  # two of them


def test_thinking_at_the_beginning_is_told_apart() -> None:
    assert split_think("<think>hm\nhm</think>\n\nYes.") == ("Yes.", "hm\nhm")
    assert split_think("  <think>hm</think>Yes.") == ("Yes.", "hm")


def test_anything_else_is_the_answer() -> None:
    for text in ("Yes.", "", "<thin", "a <think>b</think>", "<b>x</b>"):
        assert split_think(text) == (text, None)


def test_thinking_that_never_ends_is_no_answer() -> None:
    assert split_think("<think>on and on") == ("", "on and on")


@given(
    st.sampled_from(["<think>a<b</think>c", "<think></think>c", "plain", "<thinker>", "<think>x</thin"]),
    st.lists(st.integers(0, 20)),
)
def test_where_the_pieces_end_makes_no_difference(text: str, places: list[int]) -> None:
    cuts = sorted({0, len(text), *(place for place in places if place < len(text))})
    assert joined([text[a:b] for a, b in itertools.pairwise(cuts)]) == joined([text])


@pytest.mark.parametrize(
    ("text", "answer", "thought"),
    [
        ("hm\n</think>\n\nYes.", "Yes.", "hm"),
        ("hm</think>\nYes.", "Yes.", "hm"),
        ("<thinking>hm</thinking>Yes.", "Yes.", "hm"),
        ("<thought>\nhm\n</thought>\n\nYes.", "Yes.", "hm"),
        ("[THINK]hm[/THINK]Yes.", "Yes.", "hm"),
        ("<Think>hm</Think>Yes.", "Yes.", "hm"),
        ("\ufeff<think>hm</think>Yes.", "Yes.", "hm"),
    ],
)
def test_thoughts_are_split_in_all_their_forms(text: str, answer: str, thought: str) -> None:
    assert split_think(text) == (answer, thought)


@pytest.mark.parametrize(
    "text",
    ["<thinking>-tags are useful.", "<reasoning> is an element.", "Close it with `</think>` please.", "a </think> b"],
)
def test_words_about_thoughts_stay(text: str) -> None:
    assert split_think(text) == (text, None)


@pytest.mark.parametrize("text", [" " * 1_000_000 + "</think>x", "a</think>" * 100_000, "<think>" * 100_000])
def test_the_time_is_proportional_to_the_text(text: str) -> None:
    began = time.process_time()
    split_think(text)
    assert time.process_time() - began < 1
