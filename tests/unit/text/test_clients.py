"""Requests of real front ends and agents, captured or rebuilt from their public code: what the user said in each.

`tests/fixtures/clients/` has a file for each client. `kind` is `turn` (the user said `messages`), `step` (results of
tools; `messages` were said before), `task` (a program asks on its own account) or `unsaid` (only a program wrote).
Long texts of programs are cut.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.chat import read_chat
from gateway.formats.messages import read_messages
from gateway.formats.responses import read_response
from gateway.text.clients import AGENT_HEADERS, CLIENTS
from gateway.turn import ParsedRequest

FOLDER = Path(__file__).parents[2] / "fixtures" / "clients"
FILES = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
CASES = [
    pytest.param(case, id=f"{client['client']}-{number}")
    for client in FILES
    for number, case in enumerate(client["cases"])
]
READERS = {"/v1/chat/completions": read_chat, "/v1/messages": read_messages, "/v1/responses": read_response}


def kind_of(ask: ParsedRequest, headers: dict[str, str]) -> str:
    if ask.is_task or not headers.keys().isdisjoint(AGENT_HEADERS):
        return "task"
    if ask.is_step:
        return "step"
    return "unsaid" if ask.is_unsaid else "turn"


@pytest.mark.parametrize("case", CASES)
def test_what_the_user_said_is_read(case: dict[str, Any]) -> None:
    ask = READERS[case["path"]](case["body"], 1000)
    kind = kind_of(ask, case["headers"])
    assert kind == case["kind"]
    if kind in ("turn", "step"):
        assert list(ask.messages) == case["messages"]


def test_real_agents_and_many_front_ends_are_there() -> None:
    captured = {client["client"] for client in FILES for case in client["cases"] if case["source"] == "captured"}
    assert captured == {"Claude Code", "Codex", "Cline", "Qwen Code", "opencode", "pi"}
    assert len(FILES) >= 40
    assert sum(len(client["cases"]) for client in FILES) >= 400


def test_names_of_clients_are_unique() -> None:
    names = [client.name for client in CLIENTS]
    assert len(names) == len(set(names))
