import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.remember.preferences import preferences
from gateway.remember.traits import trait_of

WORDS = [
    "I",
    "I'm",
    "live",
    "in",
    "Lisbon",
    "am",
    "a",
    "nurse",
    "by the way",
    ",",
    "from",
    "我",
    "住在",
    "是",
    "上海",
    "\n",
]


@pytest.mark.parametrize(
    ("message", "topics"),
    [
        ("I live in Lisbon. Always answer in Portuguese.", ["about", "style"]),
        ("Do I live in Lisbon?", []),
        ("I live in Lisbon this time.", []),
        ("Translate into French. I live in Lisbon.", []),
        ("I am a nurse and vegetarian.", ["about"]),
        ("I'm vegetarian, and I live in Lisbon.", ["health"]),
        ("我住在上海，是一名护士。", ["about"]),
        ("i'm from Brazil", ["about"]),
        ("i live in lisbon", []),
    ],
)
def test_topics_of_a_message(message: str, topics: list[str]) -> None:
    assert [one.topic for one in preferences(message)] == topics


@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_whatever_is_said_is_read(text: str) -> None:
    assert trait_of(text) in ("", "home", "work", "origin", "language")


@pytest.mark.parametrize("piece", ["by the way, ", "I live in ", "I'm a retired ", "我是", "，我", "write ", "* - "])
def test_a_long_text_is_read_in_time(piece: str) -> None:
    text = piece * 2000
    began = time.process_time()
    trait_of(text)
    assert time.process_time() - began < 1
