"""What replaced what, until when it held, and how to take that back."""

from dataclasses import replace
from typing import Any

from gateway.memory.versions import (
    archive,
    archive_on_request,
    earlier_text,
    is_valid_at,
    restore_superseded,
    undo,
    version_chain,
)
from gateway.turn import Record
from tests.fakes.made import record

NOW = 1_800_000_000.0


def replaced() -> tuple[Record, Record]:
    """A memory, and the one that took its place."""
    old = record("lives in Porto", 0, kind="fact")
    new = record("lives in Lisbon", 10, kind="fact", info={"replaces": [old.id]})
    return archive(old, new.event_time, new.id), new


def applied(line: list[Record], changes: list[Record]) -> dict[str, Record]:
    return {one.id: one for one in line} | {one.id: one for one in changes}


def test_a_memory_held_from_when_it_was_said_until_it_was_replaced() -> None:
    old, new = replaced()
    assert [is_valid_at(old, at) for at in (old.event_time - 1, old.event_time, new.event_time)] == [False, True, False]
    assert [is_valid_at(new, at) for at in (new.event_time - 1, new.event_time, NOW)] == [False, True, True]


def test_a_chain_has_what_came_before_and_after_and_nothing_else() -> None:
    old, new = replaced()
    newest = record("lives in Faro", 20, kind="fact", info={"replaces": [new.id]})
    new = archive(new, newest.event_time, newest.id)
    other = record("has a cat", 5, kind="fact")
    for start in (old, new, newest):
        assert [one.text for one in version_chain(start.id, [newest, other, new, old])] == [
            "lives in Porto",
            "lives in Lisbon",
            "lives in Faro",
        ]
    assert version_chain("0" * 32, [old, new]) == []


def test_undoing_brings_back_what_was_replaced_and_again_undoes_that() -> None:
    line = list(replaced())
    for named in line:  # whichever of the two is named
        after = applied(line, undo(named, line, NOW))
        old, new = after[line[0].id], after[line[1].id]
        assert (old.status, new.status) == ("activated", "archived")
        assert not old.lineage.superseded_by
        assert not old.validity.until
        again = applied([old, new], undo(new, [old, new], NOW + 1))
        assert (again[old.id].status, again[new.id].status) == ("archived", "activated")
        assert again[old.id].lineage.superseded_by == new.id


def test_an_edit_is_taken_back_text_by_text() -> None:
    first = record("likes tea", 0)
    one = earlier_text(first, NOW)
    second = replace(first, text="likes coffee", version=2)
    two = earlier_text(second, NOW + 1)
    third = replace(second, text="likes water", version=3)
    line = [third, one, two]
    assert (one.status, one.text, one.links, one.lineage.edit_of) == ("archived", "likes tea", (first.id,), first.id)
    after = applied(line, undo(third, line, NOW + 2))
    assert (after[first.id].text, after[two.id].text) == ("likes coffee", "likes water")
    after = applied(list(after.values()), undo(after[first.id], list(after.values()), NOW + 3))
    assert after[first.id].text == "likes tea"
    assert undo(after[first.id], list(after.values()), NOW + 4) == [], "there is nothing before that"


def test_what_was_archived_by_hand_comes_back() -> None:
    old = archive(record("likes tea"), NOW)
    (back,) = undo(old, [old], NOW + 1)
    assert back.status == "activated"
    held = [is_valid_at(back, at) for at in (old.event_time, NOW, NOW + 0.5, NOW + 1)]
    assert held == [True, False, False, True], "it did not hold in between"


def test_what_replaced_and_was_taken_back_held_in_between() -> None:
    line = list(replaced())
    after = applied(line, undo(line[1], line, NOW))
    old, new = after[line[0].id], after[line[1].id]
    moments = (old.event_time, new.event_time, NOW - 1, NOW, NOW + 1)
    assert [is_valid_at(old, at) for at in moments] == [True, False, False, True, True]
    assert [is_valid_at(new, at) for at in moments] == [False, True, True, False, False]
    again = applied([old, new], undo(new, [old, new], NOW + 10))
    later = (old.event_time, NOW - 1, NOW + 1, NOW + 11)
    assert [is_valid_at(again[old.id], at) for at in later] == [True, False, True, False]
    assert [is_valid_at(again[new.id], at) for at in later] == [False, True, False, True]


def test_of_three_the_last_change_is_taken_back_first() -> None:
    old, middle = replaced()
    newest = record("lives in Faro", 20, kind="fact", info={"replaces": [middle.id]})
    line = [old, archive(middle, newest.event_time, newest.id), newest]
    after = applied(line, undo(old, line, NOW))
    assert [after[one.id].status for one in line] == ["archived", "activated", "archived"]
    after = applied(list(after.values()), undo(after[old.id], list(after.values()), NOW + 1))
    assert [after[one.id].status for one in line] == ["activated", "archived", "archived"]


def test_what_was_edited_when_it_held_no_more_holds_no_more() -> None:
    old, new = replaced()
    earlier = replace(earlier_text(old, NOW), updated_at=NOW)
    changed = replace(old, text="lived in Porto", version=2, updated_at=NOW)
    line = [changed, earlier, new]
    assert not is_valid_at(earlier, NOW)
    after = applied(line, undo(changed, line, NOW + 1))
    assert (after[old.id].text, after[old.id].status) == (old.text, "archived")
    assert after[old.id].lineage.superseded_by == new.id
    assert after[new.id].status == "activated"


def test_feedback_that_was_edited_is_feedback_after_that_is_taken_back() -> None:
    one = record("No, Mimo", info={"corrects": True}, links=("x" * 32,))
    earlier = earlier_text(one, NOW)
    assert not earlier.is_correction, "it goes with its memory"
    back = undo(replace(one, text="No, Momo", version=2), [earlier], NOW + 1)
    assert back[0].is_correction
    assert not back[1].is_correction


def test_what_holds_again_when_a_replacement_is_gone() -> None:
    old, middle = replaced()
    newest = record("lives in Faro", 20, kind="fact", info={"replaces": [middle.id]})
    middle = archive(middle, newest.event_time, newest.id)
    line = [old, middle, newest]
    (relinked, after) = restore_superseded({middle.id: middle}, {middle.id}, line, NOW)
    assert (relinked.status, relinked.lineage.superseded_by) == ("archived", newest.id)
    assert after.lineage.supersedes == (old.id,)
    (back,) = restore_superseded({newest.id: newest}, {newest.id}, line, NOW)
    assert (back.id, back.status) == (middle.id, "activated")
    taken_out = archive_on_request(middle, NOW)
    assert restore_superseded({newest.id: newest}, {newest.id}, [old, taken_out, newest], NOW) == []
    assert taken_out.validity.until == newest.event_time, "it held until it was replaced"


def test_nothing_happened_to_a_new_memory() -> None:
    one = record("likes tea")
    assert undo(one, [one], NOW) == []


def test_info_from_anywhere_is_no_fault() -> None:
    odd: dict[str, Any] = {"replaces": 7, "replaced_by": ["x"], "held_until": "soon", "edit_of": None}
    one = record("likes tea", info=odd, status="archived")
    assert version_chain(one.id, [one]) == [one]
    assert not is_valid_at(one, one.updated_at)
    assert undo(one, [one], NOW)[0].status == "activated"
