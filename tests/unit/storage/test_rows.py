from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import LoadedRows, Row
from gateway.text.terms import stored_terms
from tests.fakes.made import record

WORDS = ("cat", "dog", "Lisbon", "train", "猫", "小白")
FIELDS = st.fixed_dictionaries(
    {
        "text": st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join),
        "session_id": st.sampled_from("xyz"),
        "source": st.sampled_from(["user", "assistant"]),
        "kind": st.sampled_from(["turn", "turn", "preference", "document"]),
        "status": st.sampled_from(["activated", "activated", "archived"]),
        "part": st.sampled_from([0, 0, 1]),
        "tags": st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
    }
)


def row(number: int, fields: dict[str, Any], tokens: int = 9) -> Row:
    made = record(fields["text"], number, **{name: value for name, value in fields.items() if name != "text"})
    vector = np.random.default_rng(number).standard_normal(4).astype(np.float32)
    embedder, vector = ("e", vector) if number % 5 else ("another", vector)
    terms = tuple(stored_terms(made.text, made.event_time)) if number % 7 else ()
    return Row(
        record=made, vector=vector if number % 6 else None, embedder=embedder, terms=terms, tokens=tokens, seq=number
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(FIELDS, min_size=1, max_size=40), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
def test_a_set_that_was_loaded_finds_what_one_that_grew_finds(fields: list[dict[str, Any]], query: list[str]) -> None:
    rows = [row(number, one, tokens=9 if number % 4 else 150) for number, one in enumerate(fields)]
    grown, filled = WorkingSet(4, "e"), WorkingSet(4, "e")
    for begin in range(0, len(rows), 3):
        grown.put(rows[begin : begin + 3])
    filled.fill(LoadedRows([to_arrow(rows, 4)]))
    assert len(grown) == len(filled)
    assert filled.records() == grown.records()
    later = row(99, {"text": "cat train", "session_id": "x", "source": "user"})
    for working_set in (grown, filled):
        working_set.remove(rows[len(rows) // 2].record.id)
        working_set.put([later])
    vector = np.asarray([1, 0, 0, 0], np.float32)
    for group in ("text", "preference"):
        first, second = (one.search(query, vector, 50, RankWeights(), group=group) for one in (grown, filled))
        assert [one.record for one in first] == [one.record for one in second]
        assert np.allclose([one.score for one in first], [one.score for one in second], atol=1e-4)
    assert filled.latest("x", 9) == grown.latest("x", 9)
    assert filled.records([later.record.id]) == [later.record]


def test_the_newest_version_of_a_row_counts_and_it_keeps_its_place() -> None:
    fields = {"text": "cat"}
    first, second = row(1, fields), row(2, fields)
    newer = Row(record=record("cat", 1, version=2), vector=None, embedder="", terms=(), tokens=1, seq=0)
    loaded = LoadedRows([to_arrow([newer, second, first], 4)])
    assert [(one.id, one.version) for one in loaded.records()] == [(first.record.id, 2), (second.record.id, 1)]
    assert LoadedRows(()).rows() == []
