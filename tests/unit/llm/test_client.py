from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.llm.client import read_cut_object, read_object


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": {"b": 2}}\n``` Anything else?', {"a": {"b": 2}}),
        ('<think>{"a": 0}</think>{"a": 1}', {"a": 1}),
        ('{not json} {"a": 1}', {"a": 1}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('{"a": 1', None),
        ("[1, 2]", None),
        ("", None),
        ("{" * 5000, None),
        (r'{"a": "\ud83d", "\udc00": ["\ud800 x", {"b": "\ud83d\ude00"}]}', {"a": "?", "?": ["? x", {"b": "😀"}]}),
    ],
)
def test_the_first_object_in_a_models_words_is_read(text: str, found: Any) -> None:
    assert read_object(text) == found


@given(st.text('{}[]":,ab1 \n', max_size=80))
def test_whatever_a_model_says_is_read_or_not(text: str) -> None:
    assert isinstance(read_object(text), dict | None)


CUT = '{"facts": [{"text": "Marta lives in Lisbon.", "turns": [1], "confidence": 0.9, "when": ""}, {"text": "Ma'


def test_an_object_inside_a_cut_answer_is_not_the_answer() -> None:
    assert read_object(CUT, {"facts"}) is None
    assert read_object('{"text": "x"} {"facts": []}', {"facts"}) == {"facts": []}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CUT, {"facts": [{"text": "Marta lives in Lisbon.", "turns": [1], "confidence": 0.9, "when": ""}]}),
        ('Here: {"facts": [{"a": "}]"}, {"b": [1, 2', {"facts": [{"a": "}]"}]}),
        ('{"facts": ["one", "two", "thr', {"facts": ["one", "two"]}),
        ('{"facts": [], "skills": [{"a"', {"facts": []}),
        ('{"facts": [{"a": 1', None),
        ('{"other": [1], "x', None),
        ('{"facts": [1]} trailing', None),
        ("no object", None),
    ],
)
def test_the_complete_entries_of_a_cut_answer_are_read(text: str, found: Any) -> None:
    assert read_cut_object(text, {"facts", "skills"}) == found


@given(st.text('{}[]":,a1\\ ', max_size=80))
def test_whatever_is_cut_is_read_or_not(text: str) -> None:
    assert isinstance(read_cut_object('{"facts": [' + text, {"facts"}), dict | None)
