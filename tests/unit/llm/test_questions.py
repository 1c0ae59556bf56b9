from collections.abc import Mapping
from typing import Any

import pytest

from gateway.llm.client import ModelClient
from gateway.llm.questions import judge_feedback, refine, rephrase, suggest
from tests.fakes.made import memory, record


class Scripted(ModelClient):
    """An asker whose model always says the same."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer
        self.material = ""

    async def ask(
        self, instructions: str, material: str, schema: Mapping[str, Any], *, timeout: float
    ) -> dict[str, Any] | None:
        self.material = material
        return self.answer


MEMORIES = [memory("one", 1), memory("two", 2), memory("liked", 3, kind="preference")]


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ({"helpful": [2]}, ["liked", "two"]),
        ({"helpful": [2, 2, 1, 99, "1", 0]}, ["liked", "two", "one"]),
        ({"helpful": []}, ["one", "two", "liked"]),
        ({"helpful": "2"}, ["one", "two", "liked"]),
        ({}, ["one", "two", "liked"]),
        (None, ["one", "two", "liked"]),
    ],
)
async def test_a_model_picks_memories_and_preferences_stay(answer: dict[str, Any] | None, texts: list[str]) -> None:
    assert [one.record.text for one in await refine(Scripted(answer), "q", MEMORIES, 1)] == texts


@pytest.mark.parametrize("answer", [None, {}, {"query": 3}, {"query": " "}])
async def test_an_odd_rephrasing_is_none(answer: dict[str, Any] | None) -> None:
    assert await rephrase(Scripted(answer), "q", 1) is None


async def test_suggestions_are_three_at_the_most_and_never_fail() -> None:
    assert await suggest(Scripted({"query": ["a", 1, " ", "b", "c", "d"]}), ["x"], "en", 1) == ["a", "b", "c"]
    assert await suggest(Scripted({"query": None}), ["The sea", "The sea"], "en", 1) == [
        'What do you remember about "The sea"?',
        "What do you remember about me?",
        "What did we talk about last?",
    ]
    assert len(await suggest(Scripted(None), [], "zh", 1)) == 3


@pytest.mark.parametrize(
    "answer", [None, {}, {"updates": [{"number": 7, "text": "x"}]}, {"updates": [{"number": True}], "additions": [3]}]
)
async def test_a_judgement_that_says_nothing_usable_is_none(answer: dict[str, Any] | None) -> None:
    assert await judge_feedback(Scripted(answer), "no", "", [record("old")], 1) is None


async def test_a_model_is_shown_a_bounded_part() -> None:
    model_client = Scripted(None)
    await suggest(model_client, ["x" * 1000] * 100, "en", 1)
    assert len(model_client.material) <= 12_000
