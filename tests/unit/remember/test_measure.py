import pytest

from gateway.remember.measure import measure
from gateway.text.form import UNKNOWN_FORM, read_form
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
