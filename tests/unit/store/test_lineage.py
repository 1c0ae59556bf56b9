"""What replaced what, until when it held, and how to take that back."""

from dataclasses import replace
from typing import Any

from gateway.store.lineage import EDIT_OF, HELD_UNTIL, REPLACED_BY, REPLACES, archived, chain, edited, held_at, undone
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
    assert (back.status, back.info) == ("activated", {})


def test_nothing_happened_to_a_new_memory() -> None:
    one = record("likes tea")
    assert undone(one, [one], NOW) == []


def test_info_from_anywhere_is_no_fault() -> None:
    odd: dict[str, Any] = {REPLACES: 7, REPLACED_BY: ["x"], HELD_UNTIL: "soon", EDIT_OF: None}
    one = record("likes tea", info=odd, status="archived")
    assert chain(one.id, [one]) == [one]
    assert not held_at(one, one.updated_at)
    assert undone(one, [one], NOW)[0].status == "activated"
