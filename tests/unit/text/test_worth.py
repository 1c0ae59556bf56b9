import pytest

from gateway.text.form import read_form
from gateway.text.worth import TASK_WORTH, estimate_worth


def worth(text: str, *, is_from_user: bool = True) -> float:
    return estimate_worth(read_form(text), len(text) // 4 + 1, is_from_user=is_from_user)


@pytest.mark.parametrize(
    ("personal", "task"),
    [
        ("My sister Hannah moved to York last week.", "Write a regex that matches UK postcodes."),
        ("I'm allergic to walnuts, so no pesto for me.", "Translate into French: The shop opens at nine."),
        ("我女儿下个月满五岁。", "写一篇关于光合作用的短文"),
    ],
)
def test_what_a_person_tells_is_worth_more_than_a_task(personal: str, task: str) -> None:
    assert worth(personal) > 0 > TASK_WORTH > worth(task)


def test_a_generic_answer_is_worth_little() -> None:
    answer = "Use this pattern:\n```\n^[A-Z]{2}$\n```\n- it is anchored\n- it is short"
    assert worth(answer, is_from_user=False) < TASK_WORTH
