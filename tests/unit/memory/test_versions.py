"""What replaced what, until when it held, and how to take that back."""

from dataclasses import replace
from typing import Any

from gateway.memory.versions import (
    CORRECTS,
    EDIT_OF,
    HELD_UNTIL,
    REPLACED_BY,
    REPLACES,
    archived,
    chain,
    edited,
    held_again,
    held_at,
    put_away,
    undone,
)
from gateway.turn import Record
from tests.fakes.made import record

NOW = 1_800_000_000.0


def replaced() -> tuple[Record, Record]:
    """A memory, and the one that took its place."""
    old = record("lives in Porto", 0, kind="fact")
    new = record("lives in Lisbon", 10, kind="fact", info={REPLACES: [old.id]})
    return archived(old, new.event_time, new.id), new


def applied(line: list[Record], changes: list[Record]) -> dict[str, Record]:
    return {one.id: one for one in line} | {one.id: one for one in changes}


def test_a_memory_held_from_when_it_was_said_until_it_was_replaced() -> None:
    old, new = replaced()
    assert [held_at(old, at) for at in (old.event_time - 1, old.event_time, new.event_time)] == [False, True, False]
    assert [held_at(new, at) for at in (new.event_time - 1, new.event_time, NOW)] == [False, True, True]


def test_a_chain_has_what_came_before_and_after_and_nothing_else() -> None:
    old, new = replaced()
    newest = record("lives in Faro", 20, kind="fact", info={REPLACES: [new.id]})
    new = archived(new, newest.event_time, newest.id)
    other = record("has a cat", 5, kind="fact")
    for start in (old, new, newest):
        assert [one.text for one in chain(start.id, [newest, other, new, old])] == [
            "lives in Porto",
            "lives in Lisbon",
            "lives in Faro",
        ]
    assert chain("0" * 32, [old, new]) == []


def test_undoing_brings_back_what_was_replaced_and_again_undoes_that() -> None:
    line = list(replaced())
    for named in line:  # whichever of the two is named
        after = applied(line, undone(named, line, NOW))
        old, new = after[line[0].id], after[line[1].id]
        assert (old.status, new.status) == ("activated", "archived")
        assert REPLACED_BY not in old.info
        assert HELD_UNTIL not in old.info
        again = applied([old, new], undone(new, [old, new], NOW + 1))
        assert (again[old.id].status, again[new.id].status) == ("archived", "activated")
        assert again[old.id].info[REPLACED_BY] == new.id


def test_an_edit_is_taken_back_text_by_text() -> None:
    first = record("likes tea", 0)
    one = edited(first, NOW)
    second = replace(first, text="likes coffee", version=2)
    two = edited(second, NOW + 1)
    third = replace(second, text="likes water", version=3)
    line = [third, one, two]
    assert (one.status, one.text, one.links, one.info[EDIT_OF]) == ("archived", "likes tea", (first.id,), first.id)
    after = applied(line, undone(third, line, NOW + 2))
    assert (after[first.id].text, after[two.id].text) == ("likes coffee", "likes water")
    after = applied(list(after.values()), undone(after[first.id], list(after.values()), NOW + 3))
    assert after[first.id].text == "likes tea"
    assert undone(after[first.id], list(after.values()), NOW + 4) == [], "there is nothing before that"


def test_what_was_archived_by_hand_comes_back() -> None:
    old = archived(record("likes tea"), NOW)
    (back,) = undone(old, [old], NOW + 1)
    assert back.status == "activated"
    held = [held_at(back, at) for at in (old.event_time, NOW, NOW + 0.5, NOW + 1)]
    assert held == [True, False, False, True], "it did not hold in between"


def test_what_replaced_and_was_taken_back_held_in_between() -> None:
    line = list(replaced())
    after = applied(line, undone(line[1], line, NOW))
    old, new = after[line[0].id], after[line[1].id]
    moments = (old.event_time, new.event_time, NOW - 1, NOW, NOW + 1)
    assert [held_at(old, at) for at in moments] == [True, False, False, True, True]
    assert [held_at(new, at) for at in moments] == [False, True, True, False, False]
    again = applied([old, new], undone(new, [old, new], NOW + 10))
    later = (old.event_time, NOW - 1, NOW + 1, NOW + 11)
    assert [held_at(again[old.id], at) for at in later] == [True, False, True, False]
    assert [held_at(again[new.id], at) for at in later] == [False, True, False, True]


def test_of_three_the_last_change_is_taken_back_first() -> None:
    old, middle = replaced()
    newest = record("lives in Faro", 20, kind="fact", info={REPLACES: [middle.id]})
    line = [old, archived(middle, newest.event_time, newest.id), newest]
    after = applied(line, undone(old, line, NOW))
    assert [after[one.id].status for one in line] == ["archived", "activated", "archived"]
    after = applied(list(after.values()), undone(after[old.id], list(after.values()), NOW + 1))
    assert [after[one.id].status for one in line] == ["activated", "archived", "archived"]


def test_what_was_edited_when_it_held_no_more_holds_no_more() -> None:
    old, new = replaced()
    earlier = replace(edited(old, NOW), updated_at=NOW)
    changed = replace(old, text="lived in Porto", version=2, updated_at=NOW)
    line = [changed, earlier, new]
    assert not held_at(earlier, NOW)
    after = applied(line, undone(changed, line, NOW + 1))
    assert (after[old.id].text, after[old.id].status) == (old.text, "archived")
    assert after[old.id].info[REPLACED_BY] == new.id
    assert after[new.id].status == "activated"


def test_feedback_that_was_edited_is_feedback_after_that_is_taken_back() -> None:
    one = record("No, Mimo", info={CORRECTS: True}, links=("x" * 32,))
    earlier = edited(one, NOW)
    assert CORRECTS not in earlier.info, "it goes with its memory"
    back = undone(replace(one, text="No, Momo", version=2), [earlier], NOW + 1)
    assert CORRECTS in back[0].info
    assert CORRECTS not in back[1].info


def test_what_holds_again_when_a_replacement_is_gone() -> None:
    old, middle = replaced()
    newest = record("lives in Faro", 20, kind="fact", info={REPLACES: [middle.id]})
    middle = archived(middle, newest.event_time, newest.id)
    line = [old, middle, newest]
    (relinked, after) = held_again({middle.id: middle}, {middle.id}, line, NOW)
    assert (relinked.status, relinked.info[REPLACED_BY]) == ("archived", newest.id)
    assert after.info[REPLACES] == [old.id]
    (back,) = held_again({newest.id: newest}, {newest.id}, line, NOW)
    assert (back.id, back.status) == (middle.id, "activated")
    taken_out = put_away(middle, NOW)
    assert held_again({newest.id: newest}, {newest.id}, [old, taken_out, newest], NOW) == []
    assert taken_out.info[HELD_UNTIL] == newest.event_time, "it held until it was replaced"


def test_nothing_happened_to_a_new_memory() -> None:
    one = record("likes tea")
    assert undone(one, [one], NOW) == []


def test_info_from_anywhere_is_no_fault() -> None:
    odd: dict[str, Any] = {REPLACES: 7, REPLACED_BY: ["x"], HELD_UNTIL: "soon", EDIT_OF: None}
    one = record("likes tea", info=odd, status="archived")
    assert chain(one.id, [one]) == [one]
    assert not held_at(one, one.updated_at)
    assert undone(one, [one], NOW)[0].status == "activated"
