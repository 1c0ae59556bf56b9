import dataclasses

import pytest

from gateway.memory.profile import in_force, of_profile
from gateway.memory.record import NO_DETAILS, Details
from gateway.remember.preferences import preferences
from gateway.turn import Record
from tests.fakes.made import record


def wishes(*messages: str) -> list[Record]:
    """What is in force after a user has said these one after the other."""
    found = [
        record(one.text, number, kind="preference", info={"topic": one.topic})
        for number, message in enumerate(messages)
        for one in preferences(message)
    ]
    assert len(found) >= len(messages), "each one is recognised as a wish"
    return in_force(found)


def texts(*messages: str) -> list[str]:
    return [one.text for one in wishes(*messages)]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("Call me Bob.", "Please call me Robert."),
        ("以后请叫我小李。", "以后请叫我李老师。"),
        ("Always answer in German.", "From now on, answer in English."),
        ("以后都用中文回答", "以后请用英文回答"),
        ("From now on, keep your answers short.", "Always give detailed answers."),
        ("Always use metric units.", "Always use imperial units."),
        ("Always use bullet points.", "Never use bullet points."),
        ("I'm a vegetarian.", "I'm no longer vegetarian."),
        ("Please never use emojis in replies.", "Always use an emoji at the end."),
        ("Always show units when I ask about physics.", "Never show units when I ask about physics."),
    ],
)
def test_a_newer_wish_about_the_same_replaces_the_older(older: str, newer: str) -> None:
    assert texts(older, newer) == [newer]
    assert texts(newer, older) == [older]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "Always include version numbers when I ask about libraries.",
            "Always include examples when I ask about syntax.",
        ),
        ("Always answer in German.", "Always answer in French when I ask about Paris."),
        ("I'm allergic to peanuts.", "I'm a vegetarian."),
        ("Always use metric units.", "Never use emojis."),
        ("我对花生过敏。", "以后都用中文回答"),
        ("I’m allergic to peanuts.", "I can't eat gluten."),
        ("I can't eat nuts.", "I can't eat gluten."),
        ("我不能吃花生。", "我有糖尿病。"),
    ],
)
def test_wishes_about_different_things_stand_side_by_side(one: str, other: str) -> None:
    assert set(texts(one, other)) == {one, other}


def test_the_order_is_fixed_and_the_newest_of_a_topic_comes_first() -> None:
    said = ["Never use emojis.", "I'm allergic to peanuts.", "Call me Ada.", "Always use metric units."]
    assert texts(*said) == ["Call me Ada.", "I'm allergic to peanuts.", "Always use metric units.", "Never use emojis."]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "turn"},
        {"source": "assistant"},
        {"status": "archived"},
        {"details": Details(topic="taste")},
        {"suspicious": ("instruction",)},
        {"details": Details(topic="style", is_standing=False)},
        {"details": NO_DETAILS},
    ],
)
def test_only_what_the_user_wishes_at_all_times_is_part_of_it(change: dict[str, object]) -> None:
    wish = record("Always use metric units.", kind="preference", info={"topic": "style"})
    assert of_profile(wish)
    assert not of_profile(dataclasses.replace(wish, **change))  # type: ignore[arg-type]  # fields of a record
