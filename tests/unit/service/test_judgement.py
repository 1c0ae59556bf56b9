"""What a model made of a comment, with answers that real small models gave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.memory.support import content_words
from gateway.service.judgement import check_judgement
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


def test_a_note_is_forgotten_only_where_the_comment_asks_and_speaks_of_it() -> None:
    assert check_judgement([], [], [CAR, TEA], record("My car is sold.", 9), [CAR, TEA]).forgotten == ()
    asked = check_judgement([], [], [CAR, TEA], record("Delete the note on my car, it is sold.", 9), [CAR, TEA])
    assert asked.forgotten == (CAR,)
    assert not asked.is_covered, "nothing says that it is sold"


RED, OLIVES = "My car is red.", "I like olives."


@pytest.mark.parametrize(
    ("notes", "comment", "updates", "additions"),
    [
        ([OLIVES], "No, I do not like olives.", [], ["I like olives."]),
        ([RED], "No, my car is blue, not red.", [(0, "My car is red, not blue.")], []),
        ([RED], "No, my car is blue, not red.", [], ["My car is red."]),
        (["我的车是红色的。"], "不对，我的车是蓝色的，不是红色的。", [(0, "我的车是红色的，不是蓝色的。")], []),
        (["我的车是红色的。"], "不对，我的车是蓝色的，不是红色的。", [], ["我的车是红色的。"]),
        (
            ["My boss is Anna and my assistant is Bob."],
            "My boss is Bob and my assistant is Anna.",
            [],
            ["My boss is Anna."],
        ),
        ([RED, "My bike is blue."], "No, my car is blue and my bike is red.", [], [RED]),
        (["My brother is older than me."], "No, I am older than my brother.", [], ["My brother is older than me."]),
        (["I write with my left hand."], "I write with my right hand.", [], ["I write with my hand."]),
        ([RED, "I am allergic to peanuts."], "My car is blue and I am not allergic to peanuts or walnuts.",
         [(1, "I am allergic to peanuts and walnuts.")], ["My car is blue."]),
        (["My red Volvo V70 was bought in Bonn in 2015."], "My car is blue.", [(0, "My car is blue.")], []),
        (["我对花生过敏。"], "我对花生不过敏。", [(0, "我对花生过敏。")], ["我对花生过敏。"]),
    ],
)  # fmt: skip
def test_what_turns_a_comment_round_does_not_hold(
    notes: list[str], comment: str, updates: list[tuple[int, str]], additions: list[str]
) -> None:
    shown = [record(text, number) for number, text in enumerate(notes)]
    changes = [(shown[number], text) for number, text in updates]
    checked = check_judgement(changes, additions, [], record(comment, 9), shown)
    assert not checked.is_covered, "the comment itself is kept"
    assert checked.updates == ()
    assert set(checked.additions) <= {"My car is blue."}


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
