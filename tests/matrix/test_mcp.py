"""Real MCP clients against the gateway: the official SDK by HTTP and by a process, with and without the handshake."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clients import ROOT, run_client
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

KEYS = [{"key": "key-of-acme", "tenant": "acme"}, {"key": "key-of-ada", "tenant": "acme", "user": "ada"}]
CONNECTIONS = [{"x-gateway-key": "key-of-acme", "x-memory-user": "ada"}, {"authorization": "Bearer key-of-ada"}]
MODES = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}
TOOLS = {
    "search_memory": True,
    "add_memory": False,
    "list_memories": True,
    "update_memory": False,
    "delete_memory": False,
    "memory_history": True,
    "get_profile": True,
}


def check(outcome: dict[str, Any], version: str) -> None:
    """Compare what the client's script printed with what the gateway promises."""
    assert outcome["version"] == version
    assert outcome["tools"] == TOOLS
    assert (outcome["resources"], outcome["prompts"], outcome["templates"]) == (["memory://profile"], ["recall"], 0)
    assert outcome["match"] == "My cat is called Miso."
    assert outcome["text"].splitlines()[1] == "<user_memory>"
    assert outcome["text"].splitlines()[-1] == "</user_memory>"
    assert outcome["changed"] == "My cat is called Mochi."
    assert outcome["history"] == ["My cat is called Miso.", "My cat is called Mochi."]
    assert outcome["profile"] == ["Please always answer in French."]
    assert "always answer in French" in outcome["resource"]
    assert "Mochi" in outcome["prompt"]
    assert outcome["prompt"].endswith("\n\nWhat is the name of my cat?")
    assert outcome["deleted"] >= 1
    assert outcome["left"] == ["Please always answer in French."]
    assert outcome["wrong"] == [True, "query: Input should be a valid string"]
    assert outcome["no_tool"] == -32602
    assert outcome["no_resource"] == (-32002 if version == "2025-11-25" else -32602)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("headers", CONNECTIONS, ids=("header", "pinned"))
async def test_the_official_sdk_works_by_http(
    mode: str, headers: dict[str, str], tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        target = json.dumps({"url": f"{gateway.url}/mcp", "headers": headers})
        outcome = json.loads(await run_client("mcp", "mcp_sdk.py", "http", mode, target, folder=tmp_path))
    check(outcome, MODES[mode])


@pytest.mark.parametrize("mode", MODES)
async def test_the_official_sdk_works_by_a_process(mode: str, tmp_path: Path, upstream: FakeUpstream) -> None:
    configuration(tmp_path, upstream.url, server__port=9)  # where no gateway runs: the command brings its own
    target = {
        "command": [sys.executable, "-m", "gateway", "mcp", "--user", "ada"],
        "environment": {"PYTHONPATH": str(ROOT)},
        "folder": str(tmp_path),
    }
    outcome = json.loads(await run_client("mcp", "mcp_sdk.py", "stdio", mode, json.dumps(target), folder=tmp_path))
    check(outcome, MODES[mode])
