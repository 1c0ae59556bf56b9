"""What goes, ends and holds again with a memory that is deleted or changed."""

from dataclasses import replace
from typing import Any

from gateway.memory.cascade import Deletion, cascade_delete, cascade_update
from gateway.memory.record import Validity
from gateway.memory.versions import archive, earlier_text, end_with_source
from gateway.turn import Record
from tests.fakes.made import record

NOW = 1_800_000_000.0


def said(name: str, number: int = 0) -> Record:
    return record(name, number, id=name)


def learnt(name: str, *messages: str, **info: Any) -> Record:
    return record(name, 10, id=name, kind="fact", links=messages, info={"learnt": True, **info})


def states(records: list[Record]) -> dict[str, str]:
    return {one.id: one.status for one in records}


def test_a_fact_goes_with_any_of_its_messages_and_the_others_are_looked_at_again() -> None:
    one, other, third = said("m1"), said("m2", 1), said("m3", 2)
    extraction_result = learnt("fact", "m1", "m2", **{"said_again": ["m3"]})
    found = cascade_delete([one], [one, other, third, extraction_result], NOW)
    assert [record.id for record in found.deleted] == ["fact", "m1"], "what was made goes first"
    assert {record.id: record.lineage.edited_in for record in found.updated} == {"m2": 2, "m3": 2}


def test_a_fact_that_is_deleted_by_hand_takes_nothing_along() -> None:
    message, extraction_result = said("m1"), learnt("fact", "m1", **{"replaces": ["old"]})
    old = archive(learnt("old", "m0"), NOW - 9, "fact")
    found = cascade_delete([extraction_result], [message, old, extraction_result], NOW)
    assert [record.id for record in found.deleted] == ["fact"]
    assert found.updated == ()


def test_a_deletion_is_divided_into_what_was_named_and_what_goes_along() -> None:
    message, other = said("m1"), said("m2", 1)
    fact, of_both = learnt("fact", "m1"), learnt("both", "m1", "m2")
    targets = {"m1": message, "fact": fact}
    deletion = Deletion.of(targets, cascade_delete(targets.values(), [message, other, fact, of_both], NOW))
    assert [record.id for record in deletion.direct] == ["m1", "fact"]
    assert [record.id for record in deletion.derived] == ["both"]
    assert [record.id for record in deletion.updated] == ["m2"]
    assert deletion.count == 3


def test_what_goes_with_a_message_gives_back_what_it_had_replaced() -> None:
    message, extraction_result = said("m1"), learnt("fact", "m1", **{"replaces": ["old"]})
    old, earlier = archive(learnt("old", "m0"), NOW - 9, "fact"), earlier_text(message, NOW - 5)
    for deleted in ([message], [message, extraction_result]):
        found = cascade_delete(deleted, [message, old, extraction_result, earlier], NOW)
        assert {record.id for record in found.deleted} == {"m1", "fact", earlier.id}
        assert [(one.id, one.status, one.version) for one in found.updated] == [("old", "activated", 2)]


def test_a_summary_gives_its_messages_back_and_asks_for_nothing() -> None:
    first, second = said("m1"), said("m2", 1)
    summary = learnt("summary", "m1", "m2", **{"condensed": True})
    first, second = (archive(one, NOW, "summary") for one in (first, second))
    found = cascade_delete([first], [first, second, summary], NOW)
    assert [(one.id, one.status, one.lineage.edited_in) for one in found.updated] == [("m2", "activated", False)]


def test_what_was_made_of_a_changed_text_ends_until_that_is_taken_back() -> None:
    before, extraction_result = said("m1"), learnt("fact", "m1", **{"replaces": ["old"]})
    old = archive(learnt("old", "m0"), NOW - 9, "fact")
    after = replace(before, text="another", version=2)
    changed = cascade_update(before, after, [before, extraction_result, old], NOW)
    assert states(changed) == {"fact": "archived", "old": "activated"}
    fact = next(one for one in changed if one.id == "fact")
    assert fact.lineage.ended_with == "m1"
    back = cascade_update(after, before, [after, *changed], NOW + 5, NOW)
    assert states(back) == {"fact": "activated", "old": "archived"}
    assert next(one for one in back if one.id == "old").lineage.superseded_by == "fact"
    assert cascade_update(after, before, [after, *changed], NOW + 5, NOW + 1) == [], "that was another edit"


def test_a_fact_does_not_come_back_beside_the_same_one() -> None:
    message, twin = archive(said("m1"), NOW), learnt("twin", "m2")
    ended = end_with_source(learnt("fact", "m1"), NOW, "m1")
    again = replace(message, status="activated", validity=Validity())
    assert states(cascade_update(message, again, [message, ended], NOW + 1)) == {"fact": "activated"}
    twin = replace(twin, text=ended.text)
    assert cascade_update(message, again, [message, ended, twin], NOW + 1) == []


def test_the_successor_of_a_memory_does_not_end_with_it() -> None:
    old = said("m1")
    new = learnt("new", "m1", **{"replaces": ["m1"]})
    assert cascade_update(old, archive(old, NOW, "new"), [old, new], NOW) == []


def test_an_earlier_text_goes_and_stays_with_its_memory() -> None:
    memory = said("m1")
    earlier = earlier_text(memory, NOW)
    assert earlier.lineage.edit_of == "m1"
    assert [one.id for one in cascade_delete([memory], [memory, earlier], NOW).deleted] == [earlier.id, "m1"]
    assert cascade_update(memory, archive(memory, NOW), [memory, earlier], NOW) == []
