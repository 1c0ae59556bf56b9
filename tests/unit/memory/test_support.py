"""Whether an item rests on what was said."""

import pytest

from gateway.memory.support import find_contributors, is_supported, wishes
from tests.fakes.made import record

SAID = [record("I moved to Lisbon in March with my brother Tomás, and I work as a nurse on the night shift.")]


@pytest.mark.parametrize(
    "text",
    [
        "The user moved to Lisbon in March.",
        "The user works night shifts as a nurse.",
        "Lives in Lisbon with their brother Tomás",
        "The user moved to Lisbon in November 2023.",  # the month the message was sent in: it may be meant
    ],
)
def test_what_was_said_in_other_words_is_supported(text: str) -> None:
    assert is_supported(text, SAID)


@pytest.mark.parametrize(
    "text",
    [
        "The user moved to Porto in March.",  # another name
        "The user moved to Lisbon with 2 brothers.",  # a number of its own
        "The user is fond of surfing and cooking.",
        "The user moved to Lisbon because the Company Acme hired them.",
    ],
)
def test_what_a_model_adds_is_not(text: str) -> None:
    assert not is_supported(text, SAID)


def test_chinese_is_compared_by_characters() -> None:
    said = [record("我下个月要搬到成都，和我妹妹一起住")]
    assert is_supported("用户下个月搬到成都，与妹妹同住", said)
    assert not is_supported("用户在上海开了一家咖啡店", said)


def test_a_looser_share_is_for_patterns() -> None:
    said = [record("Any vegetarian ramen nearby?"), record("Find me a vegetarian curry recipe.", 1)]
    text = "The user usually picks dishes without meat, vegetarian ones"
    assert not is_supported(text, said)
    assert is_supported(text, said, share=0.1)


@pytest.mark.parametrize("text", ["!!!!", "The user always wants an answer on Monday", "Siegfried lives in Lisbon"])
def test_what_says_nothing_or_begins_with_a_strange_name_is_not(text: str) -> None:
    assert not is_supported(text, [record("Hello there, I moved to Lisbon, and I live here.")])


def test_those_that_gave_a_word_are_found() -> None:
    named, other, third = record("My doctor has a recipe."), record("About the xanax.", 1), record("My doctor.", 2)
    assert find_contributors("A recipe of the doctor for xanax", [named], [named, other, third]) == [other]
    assert find_contributors("A recipe of the doctor", [named], [named, other, third]) == []


@pytest.mark.parametrize(
    ("text", "is_wish"),
    [
        ("Summarise this French page in English.", False),
        ("Show me prices in euros from now on", True),
        ("I'd rather see euros", True),
        ("这个页面讲什么？", False),
        ("以后用欧元", True),
    ],
)
def test_people_wish_with_certain_words(text: str, is_wish: bool) -> None:
    assert wishes(text) is is_wish
