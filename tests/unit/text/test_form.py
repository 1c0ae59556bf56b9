import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text.form import FEATURES, FORM_BITS, Form, read_form


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("Write a regex for postcodes", {"orders": 1, "opens_with_order": 1, "has_self": 0}),
        ("I need a regex to match emails", {"opens_with_order": 1, "has_self": 0, "tells": 0}),
        ("How do antibiotics work?", {"asks": 1, "has_self": 0}),
        ("What is my dog's name?", {"asks": 1, "has_self": 1, "opens_with_order": 0}),
        ("We moved to York yesterday.", {"tells": 1, "has_self": 1, "has_time": 1}),
        ("Earlier you wrote a regex for me.", {"refers_back": 1, "addresses": 1}),
        ("I don't know your birthday.", {"is_unsure": 1}),
        ("请帮我写一个正则", {"orders": 1, "has_self": 0}),
        ("我女儿的生日是哪天？", {"asks": 1, "has_self": 1}),
        ("我们上周搬到杭州了", {"tells": 1, "has_self": 1}),
        ("Schreib bitte einen Brief", {"opens_with_order": 1}),
        ("Mi hermana vive en Vigo", {"has_self": 1}),
    ],
)
def test_sentences_are_told_apart_by_their_form(text: str, features: dict[str, float]) -> None:
    form = read_form(text)
    assert {name: getattr(form, name) for name in features} == features


@pytest.mark.parametrize(
    "text",
    [
        "Thanks, that helps!",
        "continue",
        "ok",
        "shorter please",
        "how are you?",
        "谢谢，太有用了",
        "继续",
        "再短一点",
        "...",
    ],
)
def test_a_reaction_says_nothing_else(text: str) -> None:
    assert read_form(text).reaction == 1


@pytest.mark.parametrize("text", ["Thanks! What is my sister called?", "again: where do I live", "谢谢，我妹妹叫什么"])
def test_a_message_that_says_more_is_no_reaction(text: str) -> None:
    assert read_form(text).reaction < 1


def test_code_and_lists_are_counted_by_line() -> None:
    assert read_form("```python\nimport os\nos.getcwd()\n```").code > 0.5
    assert read_form("Buy:\n- milk\n- eggs\n- bread").listing == pytest.approx(0.75)


@given(st.lists(st.floats(0, 1), min_size=len(FEATURES), max_size=len(FEATURES)))
def test_a_packed_form_is_a_positive_number_that_holds_each_feature(values: list[float]) -> None:
    packed = Form(**dict(zip(FEATURES, values, strict=True))).packed()
    assert 0 <= packed < 2**63
    unpacked = [(packed >> (FORM_BITS * place) & 15) / 15 for place in range(len(FEATURES))]
    assert unpacked == pytest.approx(values, abs=1 / 30 + 1e-9)


@pytest.mark.parametrize(
    "part",
    ["i have a ", "my ", "what do i ", "我", "a=>", "A b ", "(", "1. ", "'", "you ", "how can ", "the \n", "<x ", "x"],
)
def test_no_text_takes_long_to_read(part: str) -> None:
    began = time.perf_counter()
    read_form(part * (200_000 // len(part)))
    assert time.perf_counter() - began < 0.25


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("・゛ー…؟;。・\u3000")), max_size=200))
def test_every_text_has_a_form(text: str) -> None:
    form = read_form(text)
    assert all(0 <= getattr(form, name) <= 1 for name in FEATURES)
    assert form.packed() >= 0


@pytest.mark.parametrize("text", ["・・・", "・", "゛", "…", "👍"])
def test_marks_alone_only_react(text: str) -> None:
    assert read_form(text).reaction == 1


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("What do I do for a living?", {"asks": 1, "has_self": 1, "orders": 0}),
        ("Which gym do I use?", {"asks": 1, "has_self": 1}),
        ("Recommend some music I'd like", {"orders": 1, "has_self": 1}),
        ("What do you know about me?", {"asks": 1, "has_self": 1, "refers_back": 1, "orders": 0}),
        ("I want a divorce.", {"orders": 0}),
        ("Check-in is on 3 September.", {"orders": 0}),
        ("order number is 88213", {"orders": 0}),
        ("给我看病的医生姓陈。", {"orders": 0, "has_self": 1}),
        ("帮我写一个简单的函数", {"orders": 1, "has_self": 0}),
        ("ما وظيفتي؟", {"asks": 1}),
        ("Πώς λέγεται ο σκύλος μου;", {"asks": 1, "code": 0, "has_self": 1}),
        ("¿Dónde vivo?", {"asks": 1, "has_self": 1}),
        ("const a = 1;", {"code": 1}),
    ],
)
def test_questions_about_oneself_are_no_errands(text: str, features: dict[str, float]) -> None:
    form = read_form(text)
    assert {name: getattr(form, name) for name in features} == features
