import json
from pathlib import Path
from typing import Any

import pytest

from gateway.evaluate.conversations import InvalidConversations, read


def made(**question: Any) -> dict[str, Any]:
    turn = {"id": "1", "role": "user", "speaker": "Ada", "content": "Hi", "time": "2026-05-08T10:00:00"}
    asked = {"id": "q", "question": "?", "evidence": ["1"], **question}
    return {
        "dataset": "d",
        "users": [{"user_id": "u", "sessions": [{"session_id": "s", "turns": [turn]}], "questions": [asked]}],
    }


def test_a_speakers_name_stands_before_what_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(made(unknown_field=1)))
    assert read(file).users[0].sessions[0].turns[0].text == "Ada: Hi"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Invalid JSON"),
        (json.dumps({"dataset": "d", "users": []}), "users"),
        (json.dumps(made(evidence=["7"])), "no turn has the id '7'"),
        (json.dumps(made(evidence=[], outdated=["1"])), "needs `evidence`"),
        (json.dumps(made(question="")), "users.0.questions.0.question"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(InvalidConversations, match=says):
        read(file)
    with pytest.raises(InvalidConversations, match="cannot read"):
        read(tmp_path / "missing.json")
