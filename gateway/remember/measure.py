"""What is stored of a text beside its vector: its search terms, its length in tokens, its form and its worth. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.store.dates import offset_in
from gateway.store.terms import stored_terms
from gateway.text.form import read_form
from gateway.text.worth import estimate_worth
from gateway.turn import Record

__all__ = ["Measures", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """See `gateway.store.loaded.Row`."""

    terms: tuple[str, ...]
    tokens: int
    form: int
    worth: float


def measure(record: Record, count: Callable[[str], int]) -> Measures:
    """Measure a record's text; `count` counts tokens."""
    text, tokens = record.text, count(record.text)
    form = read_form(text)
    return Measures(
        terms=tuple(stored_terms(text, record.event_time + offset_in(record.info))),
        tokens=tokens,
        form=form.packed(),
        worth=estimate_worth(form, tokens, is_from_user=record.source == "user"),
    )
