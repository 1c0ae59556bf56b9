import numpy as np
import pytest

from gateway.recall import query as module
from gateway.recall.query import Query
from gateway.recall.selection import estimate_need, thresholds
from gateway.recall.signals import Match

NOW = 1_790_000_000.0  # September 2026


def make_query(message: str, context: str = "") -> Query:
    return module.make_query(message, context, NOW)


def test_code_and_pastes_are_cut() -> None:
    query = make_query("Why does this fail?\n```python\nimport secret_module\n```", "")
    assert "secret_module" not in query.text
    long = make_query("begin " + "x " * 5000 + " end", "")
    assert len(long.text) < 1000
    assert (long.terms[0], long.terms[-1]) == ("begin", "end")


def test_a_short_message_borrows_words_from_the_one_before() -> None:
    assert "lisbon" in make_query("And there?", "I move to Lisbon").terms or not make_query("And there?", "").terms
    assert make_query("Lisbon weather", "I love Porto").terms[-1] == "porto"
    assert "porto" not in make_query("the weather in Lisbon in spring this year", "I love Porto").terms


def test_nothing_gives_an_empty_query() -> None:
    assert make_query("", "context").text == ""
    assert make_query("```only code```", "").text == ""


@pytest.mark.parametrize("text", ["Hi!", "Hello there", "thanks a lot!", "你好！", "谢谢啊", "ok", "Good morning"])
def test_pleasantries_look_for_nothing(text: str) -> None:
    assert make_query(text, "what was said before") == make_query("", "")


@pytest.mark.parametrize("text", ["Hi, where do I live?", "Okay, and my cat?", "你好，我住在哪里？", "Hilda", "好奇"])
def test_what_only_begins_like_a_pleasantry_is_looked_for(text: str) -> None:
    assert make_query(text, "").terms


def test_what_chinese_asks_with_is_not_looked_for() -> None:
    assert set(make_query("光速是多少？", "").terms) == {"光速", "速是"}


@pytest.mark.parametrize("text", ["Where do I live?", "what's my cat's name", "我住在哪里？", "我们的车是什么颜色？"])
def test_a_question_about_the_user_is_told(text: str) -> None:
    assert make_query(text, "").is_personal


@pytest.mark.parametrize("text", ["Give me a recipe", "What is iodine?", "帮我写一首诗", "告诉我光速是多少"])
def test_a_wish_is_not_about_the_user(text: str) -> None:
    assert not make_query(text, "").is_personal


@pytest.mark.parametrize(
    "text",
    [
        "What do you know about me?",
        "Tell me everything you remember about me",
        "What have we talked about?",
        "Can you list the order in which I brought up my plans across our conversations?",
        "Let's continue where we left off",
        "你知道我的什么?",
        "我们之前聊过什么",
        "Was weißt du über mich?",
        "¿Qué sabes de mí?",
        "Que sais-tu de moi ?",
        "私のこと何か知ってる?",
    ],
)
def test_a_question_about_the_memory_itself(text: str) -> None:
    query = make_query(text)
    assert query.is_about_memory
    assert estimate_need(query, Match(), np.zeros(0, np.float32)).probability > thresholds(0.5).need


@pytest.mark.parametrize(
    "text", ["What do you know about Rome?", "Write a chat server", "我知道了", "Our plan for today"]
)
def test_other_requests_are_not_about_the_memory(text: str) -> None:
    assert not make_query(text).is_about_memory
