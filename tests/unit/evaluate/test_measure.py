import pytest

from gateway.evaluate.measure import interval, is_current, recalled_share


def test_a_turn_is_recalled_if_its_letters_and_digits_stand_in_the_block() -> None:
    block = "8 May\n- Caroline: I'm at\n  the lake (2 km off)!"
    assert recalled_share(block, [[["I’m at the lake, 2 km off."]], [["I sold the boat."]]]) == 0.5


def test_the_newer_statement_must_be_there_and_come_last() -> None:
    assert is_current("- I live in Graz\n- I live in Linz", [[["I live in Linz"]]], [[["I live in Graz"]]])
    assert is_current("- I live in Linz", [[["I live in Linz"]]], [[["I live in Graz"]]])
    assert not is_current("- I live in Linz\n- I live in Graz", [[["I live in Linz"]]], [[["I live in Graz"]]])
    assert not is_current("- I live in Graz", [[["I live in Linz"]]], [[["I live in Graz"]]])


def test_an_interval_holds_the_mean_and_narrows_with_more_questions() -> None:
    few, many = interval([0.0, 1.0] * 5), interval([0.0, 1.0] * 500)
    assert few.mean == many.mean == pytest.approx(0.5)
    assert few.low < many.low < 0.5 < many.high < few.high
    assert interval([0.25]).low == interval([0.25]).high == 0.25


def test_of_alternatives_one_is_enough_and_of_chunks_all_are_needed() -> None:
    block = "- I live in Linz\n- the first half\n- the second half"
    assert recalled_share(block, [[["I moved to Linz"], ["I live in Linz"]]]) == 1
    assert recalled_share(block, [[["the first half", "the second half"]]]) == 1
    assert recalled_share(block, [[["the first half", "the third half"]]]) == 0
