"""What a model made of a comment, with answers that real small models gave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.learn.judgement import check_judgement
from gateway.learn.support import content_words
from tests.fakes.made import record

CAR, TEA = record("My car is a red Volvo V40.", 1), record("I live in Ghent with my wife Sofie.", 2)
COMMENT = "No, my car is blue, not red. It is a blue Volvo V40."


@pytest.mark.parametrize(
    ("comment", "old", "text", "holds"),
    [
        (COMMENT, CAR, "My car is a blue Volvo V40.", True),
        (COMMENT, CAR, "My car is a red Volvo V40.", False),
        (COMMENT, CAR, "I live in Ghent with my wife Sofie.", False),
        (COMMENT, CAR, "My car is a blue Ferrari.", False),
        ("不对，我不是对贝类过敏，我是对花生过敏。", record("我对贝类过敏。"), "I am allergic to shellfish.", False),
        ("不对，我不是对贝类过敏，我是对花生过敏。", record("我对贝类过敏。"), "我对花生过敏。", True),
        ("不对，我不是对贝类过敏，我是对花生过敏。", record("我对贝类过敏。"), "我对贝类过敏。", False),
        ("Only on Sundays.", record("I take Xanax every night."), "I take Xanax on Sundays.", True),
    ],
)
def test_an_update_rests_on_the_comment_and_says_something_of_it(comment: str, old, text: str, holds: bool) -> None:  # type: ignore[no-untyped-def]  # a record
    checked = check_judgement([(old, text)], [], [], record(comment, 9), [old])
    assert bool(checked.updates) is holds
    assert holds or not checked.is_covered


def test_a_note_that_the_comment_does_not_speak_of_is_not_forgotten() -> None:
    checked = check_judgement([], [], [CAR, TEA], record("My car is sold.", 9), [CAR, TEA])
    assert checked.forgotten == (CAR,)
    assert not checked.is_covered, "nothing says that it is sold"


def test_what_the_comment_says_beside_an_update_is_not_covered() -> None:
    comment = record("My car is blue, and my dog Rex died.", 9)
    assert not check_judgement([(CAR, "My car is a blue Volvo V40.")], [], [], comment, [CAR]).is_covered
    assert check_judgement([(CAR, "My car is a blue Volvo V40.")], ["My dog Rex died."], [], comment, [CAR]).is_covered


WORDS = st.lists(st.sampled_from("my car blue red volvo dog rex not is 花生 过敏 tea likes".split()), max_size=8).map(
    " ".join
)


@given(WORDS, WORDS, st.lists(WORDS, max_size=3), st.lists(WORDS, max_size=3), st.booleans())
def test_no_answer_leaves_less_than_the_comment(
    comment: str, old: str, updates: list[str], additions: list[str], forgets: bool
) -> None:
    note = record(old, 1)
    checked = check_judgement(
        [(note, text) for text in updates], additions, [note] * forgets, record(comment, 9), [note]
    )
    if checked.is_covered:
        kept = " ".join([*(text for _, text in checked.updates), *checked.additions, old])
        said = content_words(comment) - {"not"}
        assert said <= content_words(kept)
