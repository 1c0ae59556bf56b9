from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import LoadedRows, Row
from gateway.text.terms import terms
from tests.fakes.made import record

WEIGHTS = RankWeights()


def row(text: str, number: int = 0, embedder: str = "e", **fields: Any) -> Row:
    vector = np.zeros(4, np.float32)
    vector[number % 4] = 1
    words = tuple(terms(text))
    return Row(record=record(text, number, **fields), vector=vector, embedder=embedder, terms=words, tokens=9)


def found(working_set: WorkingSet, text: str, **options: object) -> list[str]:
    vector = np.asarray([1, 0, 0, 0], np.float32)
    memories = working_set.search(terms(text), vector, 10, WEIGHTS, **options)  # type: ignore[arg-type]  # the filter only
    return [memory.record.text for memory in memories]


def test_words_find_their_memory() -> None:
    working_set = WorkingSet(4, "e")
    working_set.put([row("the cat is called Miso", 1), row("the weather is fine", 2), row("trains are late", 3)])
    assert found(working_set, "What is my cat called?")[0] == "the cat is called Miso"


def test_a_filter_applies_before_ranking() -> None:
    working_set = WorkingSet(4, "e")
    working_set.put([row("cat one", 1, tags=("a",)), row("cat two", 2, tags=("b",))])
    assert found(working_set, "cat", allows=lambda record: "b" in record.tags) == ["cat two"]


def test_an_id_that_comes_again_replaces() -> None:
    working_set = WorkingSet(4, "e")
    working_set.put([row("old text", 1, id="x"), row("new text", 1, id="x")])
    assert len(working_set) == 1
    assert found(working_set, "text") == ["new text"]


def test_vectors_of_another_embedder_are_not_compared() -> None:
    working_set = WorkingSet(4, "e")
    working_set.put([row("abc", 0, embedder="another"), row("xyz", 0)])
    assert found(working_set, "nothing shared")[0] == "xyz"


def test_archived_memories_are_not_found() -> None:
    working_set = WorkingSet(4, "e")
    working_set.put([row("cat", 0, status="archived")])
    assert found(working_set, "cat") == []


def test_the_newest_of_a_conversation_come_in_order() -> None:
    working_set = WorkingSet(4, "e")
    working_set.put([row(f"message {number}", number, session_id="ab"[number % 2]) for number in range(8)])
    assert [one.text for one in working_set.latest("a", 3)] == ["message 2", "message 4", "message 6"]
    assert working_set.latest("unknown", 3) == []


def test_it_grows_and_knows_its_size() -> None:
    working_set = WorkingSet(4, "e")
    small = working_set.nbytes
    working_set.put([row(f"memory number {number} about topic{number}", number) for number in range(500)])
    assert working_set.nbytes > small + 500 * 16
    assert found(working_set, "topic321")[0].startswith("memory number 321")


class AgainstADict(RuleBasedStateMachine):
    """Put and remove in any order: what is found is what a dict would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.working_set = WorkingSet(4, "e")
        self.kept: dict[str, str] = {}

    @rule(name=st.sampled_from("abcdef"), number=st.integers(0, 50), session=st.sampled_from("xy"))
    def put(self, name: str, number: int, session: str) -> None:
        text = f"cat {name} {number}"
        self.working_set.put([row(text, number, id=name, session_id=session)])
        self.kept[name] = text

    @rule(name=st.sampled_from("abcdef"))
    def remove(self, name: str) -> None:
        self.working_set.remove(name)
        self.kept.pop(name, None)

    @invariant()
    def the_same_is_there(self) -> None:
        assert len(self.working_set) == len(self.kept)
        assert sorted(found(self.working_set, "cat")) == sorted(self.kept.values())
        latest = [one.id for session in "xy" for one in self.working_set.latest(session, 99)]
        assert sorted(latest) == sorted(self.kept)


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


_MARKS = st.dictionaries(
    st.sampled_from(["suspicious", "learnt", "corrects", "about_time", "replaces", "topic", "trait", "standing", "x"]),
    st.sampled_from([True, False, "low", ["a" * 32], [1.0e9, 1.1e9], {"suspicious": True, "learnt": True}, 3]),
    max_size=4,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["I am Ada.", "The cat sat.", "猫"]),
            st.sampled_from(["turn", "preference", "fact", "profile", "tool"]),
            st.sampled_from(["user", "assistant"]),
            st.sampled_from(["activated", "archived"]),
            _MARKS,
            _MARKS,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_loaded_is_what_was_put(specs: list[tuple[str, str, str, str, dict[str, Any], dict[str, Any]]]) -> None:
    rows = [
        row(text, number, kind=kind, source=source, status=status, info=info, metadata=metadata, links=("b" * 32,))
        for number, (text, kind, source, status, info, metadata) in enumerate(specs)
    ]
    live, loaded = WorkingSet(4, "e"), WorkingSet(4, "e")
    live.put(rows)
    loaded.fill(LoadedRows([to_arrow(rows, 4)]))
    count = len(rows)
    (columns, periods), (loaded_columns, loaded_periods) = ((one._columns, one._about) for one in (live, loaded))
    is_active = columns["alive"][:count]
    assert is_active.tolist() == loaded_columns["alive"][:count].tolist()
    for name, column in columns.items():
        there = loaded_columns[name][:count][is_active]
        assert column[:count][is_active].tolist() == pytest.approx(there.tolist(), rel=1e-6), name
    about = {row: period for row, period in periods.items() if is_active[row]}
    assert about == {row: period for row, period in loaded_periods.items() if is_active[row]}
    assert [one.record for one in live.profile()] == [one.record for one in loaded.profile()]
    assert [one.metadata for one in live.records()] == [one.metadata for one in loaded.records()]
