import numpy as np

from gateway.recall.query import make_query
from gateway.recall.rank import RankWeights
from gateway.recall.signals import SIGNALS, Candidates, form_matrix, pairs_of_places
from gateway.recall.working_set import WorkingSet
from gateway.storage.rows import Row
from gateway.text.form import FEATURES, UNKNOWN_FORM, read_form
from gateway.text.terms import terms
from tests.fakes.made import record

NOW = 1_790_000_000.0


def row(text: str, number: int, source: str = "user") -> Row:
    form, words = read_form(text).packed(), tuple(terms(text))
    vector = np.eye(4, dtype=np.float32)[number % 4]
    made = record(text, number, source=source)
    return Row(record=made, vector=vector, embedder="e", terms=words, tokens=9, form=form, worth=1.0)


def filled() -> WorkingSet:
    working_set = WorkingSet(4, "e")
    working_set.put(
        [
            row("What is my dog called?", 1),
            row("I don't know your dog's name.", 2, "assistant"),
            row("We took our dog Biscuit to the vet.", 3),
            row("The weather is fine.", 4),
        ]
    )
    return working_set


def texts(working_set: WorkingSet, found: Candidates) -> list[str]:
    places = np.arange(len(found))
    return [memory.record.text for memory in working_set.memories(found, places, np.zeros(len(found), np.float32))]


def test_a_form_is_unpacked_as_it_was_read() -> None:
    form = read_form("Write a haiku. I like rain?")
    unpacked = form_matrix(np.asarray([form.packed(), UNKNOWN_FORM]))
    assert np.allclose(unpacked[0], [getattr(form, name) for name in FEATURES], atol=1 / 30)
    assert not unpacked[1].any()


def test_pairs_of_rows_become_pairs_of_places() -> None:
    pairs, rows = np.asarray([[7, 2], [2, 9], [1, 7]], np.int32), np.asarray([7, 1, 2], np.int32)
    assert pairs_of_places(pairs, rows).tolist() == [[0, 2], [1, 0]]
    assert pairs_of_places(None, rows).shape == (0, 2)


def test_each_candidate_has_its_signals() -> None:
    working_set = filled()
    found = working_set.candidates(make_query("my dog Biscuit", "", NOW), None, 10, RankWeights())
    assert found.signals.shape == (len(found), len(SIGNALS))
    best = dict(zip(SIGNALS, found.signals[0].tolist(), strict=True))
    assert texts(working_set, found)[0] == "We took our dog Biscuit to the vet."
    assert best["own tells"] == 1
    assert best["from user"] == 1
    assert best["rank"] == best["gap"] == 0
    assert np.isnan(best["metric"])


def test_repeated_questions_and_answers_that_know_nothing_are_no_candidates() -> None:
    working_set = filled()
    found = working_set.candidates(make_query("What is my dog called?", "", NOW), None, 10, RankWeights())
    assert set(texts(working_set, found)) == {"We took our dog Biscuit to the vet.", "The weather is fine."}


def test_who_asks_for_earlier_questions_gets_them() -> None:
    query = make_query("Did I ask what my dog is called?", "", NOW)
    working_set = filled()
    found = working_set.candidates(query, None, 10, RankWeights())
    assert "What is my dog called?" in texts(working_set, found)
