from dataclasses import replace

import numpy as np

from gateway.recall.query import make_query
from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.storage.rows import Row
from gateway.text.form import read_form
from gateway.text.terms import terms
from tests.fakes.made import record

NOW = 1_790_000_000.0
DIMENSIONS = 8
LONG = "1. Soak the beans. 2. Fry the onions. " * 20


def row(text: str, number: int, source: str, session: str) -> Row:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[number % (DIMENSIONS - 1)] = 1
    return Row(
        record=record(text, number, source=source, session_id=session),
        vector=vector,
        embedder="e",
        terms=tuple(terms(text)),
        tokens=len(text) // 4,
        form=read_form(text).packed(),
        worth=0.0,
    )


def considered(rows: list[Row], question: str, limit: int, vector: np.ndarray | None = None) -> list[str]:
    working_set = WorkingSet(DIMENSIONS, "e")
    working_set.put(rows)
    candidates = working_set.candidates(make_query(question, "", NOW), vector, limit, RankWeights())
    places = np.arange(len(candidates))
    memories = working_set.memories(candidates, places, np.zeros(len(candidates), np.float32))
    return [memory.record.text for memory in memories]


def others(first: int, count: int) -> list[Row]:
    return [row(f"My cousin {number} likes chili.", number, "user", f"s{number}") for number in range(first, count)]


def test_the_long_answer_to_a_request_that_matches_is_considered_however_low_its_score() -> None:
    rows = [row("Give me a chili recipe for ten guests.", 0, "user", "s"), row(LONG, 1, "assistant", "s")]
    texts = considered([*rows, *others(2, 200)], "Which chili recipe for ten guests did you give me?", 20)
    assert LONG in texts
    assert len(texts) == len(set(texts)) == 20


def test_a_memory_that_only_means_what_is_asked_is_considered() -> None:
    rows = others(0, 200)
    distant = row("Zebra.", 6, "assistant", "s6")
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[DIMENSIONS - 1] = 1
    meaning = Row(
        record=distant.record,
        vector=vector,
        embedder="e",
        terms=distant.terms,
        tokens=4000,
        form=distant.form,
        worth=0.0,
    )
    assert "Zebra." in considered([*rows, meaning], "Which cousin likes chili?", 20, vector)


def test_a_small_set_is_considered_whole() -> None:
    assert len(considered(others(0, 5), "Which cousin likes chili?", 20)) == 5


def test_many_tasks_do_not_crowd_out_what_was_told() -> None:
    told = row("My cousin likes chili.", 0, "user", "told")
    tasks = [row("Which chili recipe do cousins like best?", number, "user", f"t{number}") for number in range(1, 300)]
    rows = [told, *(replace(task, worth=-3.0) for task in tasks)]
    assert "My cousin likes chili." in considered(rows, "What does my chili cousin like?", 20)
