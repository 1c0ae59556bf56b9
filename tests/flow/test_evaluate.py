"""Recall as a user would measure it: `gateway eval` on the sets that come with the source."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.evaluate.conversations import Conversations, read
from gateway.evaluate.measure import Score
from gateway.evaluate.run import evaluate, steps
from tests.fakes.process import command
from tests.fakes.running import configuration

SETS = Path(__file__).parents[1] / "eval"
# measured: english 85.2/92.6/92.6, chinese 85.7/92.9/92.9 at 128/256/512 tokens; one question is left for chance
LEAST = {"english": {128: 0.81, 256: 0.88, 512: 0.88}, "chinese": {128: 0.82, 256: 0.89, 512: 0.89}}
MOST_NOISE = 110  # tokens, on average, for what nothing said answers; measured 83, of which standing wishes are most


@pytest.fixture(scope="module", params=["english", "chinese"])
def conversations(request: pytest.FixtureRequest) -> Conversations:
    return read(SETS / f"{request.param}.json")


async def test_recall_does_not_fall(tmp_path: Path, conversations: Conversations) -> None:
    done: list[int] = []
    budgets = (128, 256, 512)
    scores = await evaluate(configuration(tmp_path, "http://127.0.0.1:9"), [conversations], budgets, done.append)
    assert sum(done) == steps([conversations], budgets, everything=False)
    for budget in budgets:
        assert mean(score.recall for score in at(scores, budget)) >= LEAST[conversations.dataset][budget]
        assert max(score.tokens for score in at(scores, budget)) <= budget
    current = [score.current for score in at(scores, 256) if score.current is not None]
    assert all(current), "what is newer must be there, and come after what it replaces"
    noise = [score for score in at(scores, 512) if score.recall is None]
    assert sum(score.noise for score in noise) / len(noise) <= MOST_NOISE


def at(scores: list[Score], budget: int) -> list[Score]:
    return [score for score in scores if score.budget == budget]


def mean(values: Any) -> float:
    known = [value for value in values if value is not None]
    return float(sum(known) / len(known))


async def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await command("eval", *arguments, folder=folder, COLUMNS="120")


async def test_the_command_compares_two_configurations_and_saves_and_draws(tmp_path: Path) -> None:
    small = json.loads((SETS / "english.json").read_text(encoding="utf-8"))
    small["users"][0]["questions"] = small["users"][0]["questions"][::4]
    (tmp_path / "small.json").write_text(json.dumps(small))
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "other.yaml").write_text("memory: {recall: {top_k: 1}}")
    options = ["--vs", "other.yaml", "--budgets", "256", "--json", "out.json", "--plot", "out.png"]
    done = await run(tmp_path, "small.json", *options)
    assert done.returncode == 0, done.stderr
    assert "against other.yaml" in done.stdout
    assert "Nothing answers" in done.stdout
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [one["configuration"] for one in saved["runs"]] == ["config.yaml", "other.yaml"]
    first, second = (one["recall"][0]["mean"] for one in saved["runs"])
    assert first > second, "one memory only must recall less"
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "data").exists(), "the memory in use is not touched"


async def test_a_file_of_another_form_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "bad.json").write_text('{"dataset": "x", "users": [{"user_id": "u"}]}')
    done = await run(tmp_path, "bad.json")
    assert (done.returncode, "users.0.sessions" in done.stderr) == (2, True)
    assert "separated by commas" in (await run(tmp_path, "bad.json", "--budgets", "many")).stderr
