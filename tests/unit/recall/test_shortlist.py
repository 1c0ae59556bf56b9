from typing import Any

import numpy as np
import pytest

from gateway.recall import shortlist
from gateway.recall.query import make_query
from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.storage.rows import Row
from gateway.text.form import read_form
from gateway.text.terms import terms
from tests.fakes.made import record

WORDS = "cat dog tea boat rain Monday garden violin Porto bread train winter lemon stairs coat lamp".split()
WEIGHTS = RankWeights()
DIMENSIONS = 16


def filled(count: int, seed: int) -> WorkingSet:
    random = np.random.default_rng(seed)
    names = [*WORDS, *(f"other{number}" for number in range(400))]
    rows = []
    for number in range(count):
        text = " ".join(random.choice(names, random.integers(3, 30)))
        links = (f"{random.integers(0, count):032x}",)
        info: dict[str, Any] = {"corrects": True} if number % 40 == 0 else {}
        if number % 55 == 0:
            info = {"learnt": True}
        memory = record(
            text,
            number,
            info,
            id=f"{number:032x}",
            source="user" if number % 2 else "assistant",
            session_id=f"s{number // 25 % 60}",
            links=links if info else (),
        )
        vector = random.standard_normal(DIMENSIONS).astype(np.float32)
        rows.append(
            Row(
                record=memory,
                vector=vector / np.linalg.norm(vector),
                embedder="e",
                terms=tuple(terms(text)),
                tokens=int(random.integers(3, 150)),
                form=read_form(text).packed(),
                worth=float(random.normal()),
            )
        )
    working_set = WorkingSet(DIMENSIONS, "e")
    working_set.put(rows)
    return working_set


@pytest.mark.parametrize("seed", range(4))
def test_the_best_rows_of_a_large_set_are_those_of_a_whole_search(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    working_set, random = filled(3000, seed), np.random.default_rng(seed)
    monkeypatch.setattr(shortlist, "_BY_SCORE", 150)
    for _ in range(8):
        query = make_query("Where is " + " ".join(random.choice(WORDS, random.integers(1, 6))), "", 1_700_000_000.0)
        vector = random.standard_normal(DIMENSIONS).astype(np.float32) if random.random() < 0.7 else None
        results = []
        for limit in (10_000, 100):
            monkeypatch.setattr(shortlist, "_DIRECT", limit)
            candidates = working_set.candidates(query, vector, 60, WEIGHTS)
            results.append((candidates, working_set.search(query.terms, vector, 30, WEIGHTS, group="chat")))
        (whole, memories), (chosen, some) = results
        assert len(set(whole.ranked.rows.tolist()) & set(chosen.ranked.rows.tolist())) >= 57
        assert whole.ranked.rows[:30].tolist() == chosen.ranked.rows[:30].tolist()
        assert whole.ranked.scores[:30] == pytest.approx(chosen.ranked.scores[:30], abs=1e-4)
        assert whole.match.best_word_share == chosen.match.best_word_share
        assert whole.match.best_cosine == chosen.match.best_cosine
        assert [memory.record.id for memory in memories] == [memory.record.id for memory in some]
