import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text.terms import is_cjk, stored_terms, terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cats", "cat"),
        ("painting", "painted"),
        ("painting", "paints"),
        ("stories", "story"),
        ("making", "make"),
        ("running", "runs"),
        ("Caroline's", "Caroline"),
        ("ＡＢＣ", "abc"),
        ("quickly", "quick"),
        ("boxes", "box"),
    ],
)
def test_forms_of_a_word_are_one_term(one: str, other: str) -> None:
    assert terms(one) == terms(other) != []


def test_stop_words_are_out_and_the_rest_stays() -> None:
    assert terms("What is the name of my cat? I don't know.") == ["nam", "cat"]
    assert len(terms("naïve café Москва")) == 3


def test_chinese_is_bigrams_beside_words() -> None:
    assert terms("R语言 可视化") == ["r", "语言", "可视", "视化"]
    assert set(terms("R语言")) <= set(terms("我最近在学R语言"))
    assert terms("猫") == ["猫"]
    assert terms("我的") == []


@given(st.text())
def test_any_text_gives_terms_without_white_space(text: str) -> None:
    assert all(term and not any(character.isspace() for character in term) for term in terms(text))


def test_scripts_are_told_apart() -> None:
    assert is_cjk("abc 猫")
    assert not is_cjk("abc é Москва")


def test_a_memory_is_found_by_its_day_in_its_own_language() -> None:
    may = 1_777_593_600.0  # 1 May 2026
    assert set(terms("in May 2026")) <= set(stored_terms("the cat", may))
    assert set(terms("5月1日")) <= set(stored_terms("我的猫", may))
