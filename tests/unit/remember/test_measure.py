from dataclasses import replace

import pytest

from gateway.memory.record import Record
from gateway.remember.measure import measure, text_to_embed
from gateway.text.form import UNKNOWN_FORM, read_form
from gateway.text.worth import TASK_WORTH
from tests.fakes.made import record


def test_a_memory_is_measured_by_its_text() -> None:
    told, task = record("We moved to York last week.", 1), record("Write a haiku about rain.", 2)
    first, second = measure(told, len), measure(task, len)
    assert first.tokens == len(told.text)
    assert "york" in first.terms
    assert first.form == read_form(told.text).packed() != second.form
    assert first.worth > second.worth


def test_a_memory_whose_form_cannot_be_read_is_stored_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.remember.measure.read_form", fail)
    measures = measure(record("We moved to York last week.", 1), len)
    assert (measures.form, measures.worth) == (UNKNOWN_FORM, 0.0)
    assert "york" in measures.terms


def test_of_a_task_and_its_answer_the_beginning_is_embedded_and_of_all_else_everything() -> None:
    def embedded(entry: Record, worth: float) -> str:
        return text_to_embed(entry, replace(measure(entry, len), worth=worth))

    answer = record("1. Use a heap.\n2. Pop the least number.\n" * 20, 2, source="assistant")
    assert measure(answer, len).worth < TASK_WORTH
    assert embedded(answer, -2.0) == answer.text[:200].strip()
    assert embedded(replace(answer, part=1), -2.0) == ""
    passage = replace(answer, kind="document", source="document")
    for whole, worth in ((answer, 0.5), (passage, -2.0), (replace(answer, part=1), 0.5)):
        assert embedded(whole, worth) == whole.text
    assert embedded(replace(answer, text="", status="deleted"), 0.0) == ""
