"""Standing wishes, and who one is, on a set of its own: what is one, what is not, which newer one replaces which."""

import json
from pathlib import Path
from typing import Any

from gateway.memory.profile import in_force, of_profile
from gateway.remember.preferences import preferences
from gateway.turn import Record
from tests.fakes.made import record

SET: dict[str, Any] = json.loads((Path(__file__).parents[2] / "eval" / "wishes.json").read_text(encoding="utf-8"))
MOST_WRONG = 0.02  # of ordinary messages
LEAST_FOUND = 0.9  # of wishes, and of what is said of oneself
LEAST_RIGHT = 0.9  # of changes


def wishes_in(text: str, number: int = 0) -> list[Record]:
    found = [
        record(one.text, number, kind="preference", info={"topic": one.topic, "standing": True, "trait": one.trait})
        for one in preferences(text)
    ]
    return [one for one in found if of_profile(one)]


def test_ordinary_messages_leave_no_standing_wish() -> None:
    ordinary = [text for texts in SET["ordinary"].values() for text in texts]
    wrong = [text for text in ordinary if wishes_in(text)]
    assert len(ordinary) > 130
    assert len(wrong) <= MOST_WRONG * len(ordinary), wrong


def test_wishes_in_so_many_words_are_found() -> None:
    missed = [text for text in SET["wishes"] if not wishes_in(text)]
    assert len(missed) <= (1 - LEAST_FOUND) * len(SET["wishes"]), missed


def test_who_one_is_is_found_and_is_no_wish() -> None:
    missed = [text for text in SET["about"] if [one.details.topic for one in wishes_in(text)] != ["about"]]
    assert len(missed) <= (1 - LEAST_FOUND) * len(SET["about"]), missed


def test_a_newer_wish_replaces_the_older_one_about_the_same_and_no_other() -> None:
    wrong = []
    for change in SET["changes"]:
        older, newer = wishes_in(change["older"], 0), wishes_in(change["newer"], 10)
        held = {one.text for one in in_force([*older, *newer])}
        is_replaced = not any(one.text in held for one in older)
        if not newer or is_replaced != change["replaces"]:
            wrong.append(change)
    assert len(wrong) <= (1 - LEAST_RIGHT) * len(SET["changes"]), wrong
