from typing import Any

import pytest

from gateway.recall.precedence import OrderingConstraints
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import LoadedRows, Row
from gateway.turn import Record
from tests.fakes.made import record


def said(name: str, number: int) -> Record:
    return record(name, number, id=name)


def learnt(name: str, number: int, *messages: str, **fields: Any) -> Record:
    info = {"learnt": True, **fields.pop("info", {})}
    return record(name, number, id=name, kind="fact", links=messages, info=info, **fields)


def replaced(name: str, number: int, *messages: str, by: str, before: tuple[str, ...] = (), **fields: Any) -> Record:
    info = {"replaced_by": by, **({"replaces": list(before)} if before else {})}
    return learnt(name, number, *messages, status="archived", info=info, **fields)


PORTO = [said("I live in Porto", 1), replaced("lives in Porto", 2, "I live in Porto", by="lives in Lisbon")]
LISBON = [
    said("I moved to Lisbon", 3),
    replaced("lives in Lisbon", 4, "I moved to Lisbon", by="lives in Graz", before=("lives in Porto",)),
]
GRAZ = [said("Graz it is now", 5), learnt("lives in Graz", 6, "Graz it is now", info={"replaces": ["lives in Lisbon"]})]


def grown(records: list[Record]) -> OrderingConstraints:
    ties = OrderingConstraints()
    for row, one in enumerate(records):
        ties.add(row, one)
    return ties


def loaded(records: list[Record]) -> OrderingConstraints:
    rows = [Row(record=one, vector=None, embedder="", terms=(), tokens=9, seq=seq) for seq, one in enumerate(records)]
    ties = OrderingConstraints()
    ties.fill(LoadedRows([to_arrow(rows, 4)]))
    return ties


def named(pairs: Any, records: list[Record]) -> set[tuple[str, str]]:
    return {(records[first].id, records[second].id) for first, second in pairs.tolist()}


@pytest.mark.parametrize("made", [grown, loaded])
def test_what_holds_now_stands_before_the_messages_of_all_that_it_replaced(made: Any) -> None:
    records = [*PORTO, *LISBON, *GRAZ]
    row_of = {one.id: row for row, one in enumerate(records)}
    ties = made(records)
    assert named(ties.outranks(row_of), records) == {
        ("lives in Graz", "I moved to Lisbon"),
        ("lives in Graz", "I live in Porto"),
    }
    assert ties.conclusions(row_of).shape == (0, 2)


@pytest.mark.parametrize("made", [grown, loaded])
def test_a_merged_fact_does_not_stand_before_its_own_messages(made: Any) -> None:
    records = [
        said("a dog", 1),
        replaced("has a dog", 2, "a dog", by="has a dog called Rex"),
        said("it is Rex", 3),
        learnt("has a dog called Rex", 4, "it is Rex", "a dog", info={"replaces": ["has a dog"]}),
    ]
    assert not len(made(records).outranks({one.id: row for row, one in enumerate(records)}))


@pytest.mark.parametrize("made", [grown, loaded])
def test_a_conclusion_stands_behind_what_it_rests_on_and_before_nothing(made: Any) -> None:
    records = [
        said("I ordered the vegan menu", 1),
        replaced("eats no meat", 2, "I ordered the vegan menu", by="eats vegan", source="assistant"),
        said("no cheese for me", 3),
        learnt("eats vegan", 4, "no cheese for me", source="assistant", info={"replaces": ["eats no meat"]}),
    ]
    row_of = {one.id: row for row, one in enumerate(records)}
    ties = made(records)
    assert named(ties.conclusions(row_of), records) == {("eats vegan", "no cheese for me")}
    assert not len(ties.outranks(row_of))


@pytest.mark.parametrize("made", [grown, loaded])
def test_feedback_stands_before_what_it_corrects(made: Any) -> None:
    records = [
        said("my cat is Miso", 1),
        record("No, Mimo", 2, id="No, Mimo", links=("my cat is Miso",), info={"corrects": True}),
    ]
    assert made(records).outranks({"my cat is Miso": 0, "No, Mimo": 1}).tolist() == [[1, 0]]


def test_rows_that_come_and_go_are_looked_up_anew() -> None:
    records = [*PORTO, *LISBON, *GRAZ]
    ties = grown(records)
    row_of = {one.id: row for row, one in enumerate(records)}
    assert len(ties.outranks(row_of)) == 2
    ties.remove(row_of.pop("lives in Lisbon"))
    assert not len(ties.outranks(row_of)), "the line to what it replaced is cut"
    ties.add(6, LISBON[1])
    assert len(ties.outranks({**row_of, "lives in Lisbon": 6})) == 2


def test_two_that_name_each_other_end() -> None:
    records = [
        learnt("one", 1, "m", info={"replaces": ["two"]}),
        learnt("two", 2, "n", info={"replaces": ["one"]}),
        said("m", 3),
        said("n", 4),
    ]
    row_of = {one.id: row for row, one in enumerate(records)}
    assert named(grown(records).outranks(row_of), records) == {("one", "n"), ("two", "m")}
