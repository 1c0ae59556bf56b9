"""Real MCP clients against the gateway: the official SDK by HTTP and by a process, with and without the handshake, the
command line of the Inspector, and Claude Code."""

import asyncio
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clients import ROOT, run_client
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import FakeUpstream
from tests.matrix.agents import MODULES

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


async def inspect(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    """What the Inspector printed, as JSON."""
    node, modules = ROOT / ".venvs" / "node" / "bin" / "node", ROOT / "tests" / "clients" / "inspector" / "node_modules"
    assert modules.is_dir(), "`make test-clients` installs it"
    process = await asyncio.create_subprocess_exec(
        *(str(node), str(modules / ".bin" / "mcp-inspector"), "--cli", *arguments),
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "NO_PROXY": "127.0.0.1", **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode()[-2000:]
    return json.loads(output)


async def test_the_inspector_finds_nothing_wrong_by_http(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        headers = [f"{name}: {value}" for name, value in CONNECTIONS[0].items()]

        async def ask(method: str, *arguments: str) -> Any:
            options = ("--transport", "http", "--method", method, *arguments, "--header", *headers)
            return await inspect(tmp_path, f"{gateway.url}/mcp", *options)

        assert {tool["name"] for tool in (await ask("tools/list", "--strict"))["tools"]} == TOOLS.keys()
        text = ("--tool-arg", "text=My cat is called Miso.")
        stored = await ask("tools/call", "--tool-name", "add_memory", *text)
        assert stored["structuredContent"]["memories"][0]["text"] == "My cat is called Miso."
        (resource,) = (await ask("resources/list"))["resources"]
        assert (await ask("resources/read", "--uri", resource["uri"]))["contents"][0]["uri"] == resource["uri"]
        prompt = await ask("prompts/get", "--prompt-name", "recall", "--prompt-args", "question=What is my cat called?")
        assert "Miso" in prompt["messages"][0]["content"]["text"]


async def test_the_inspector_starts_the_command(tmp_path: Path, upstream: FakeUpstream) -> None:
    configuration(tmp_path, upstream.url, server__port=9)
    command = (sys.executable, "-m", "gateway", "mcp", "--user", "ada")
    options = ("-e", f"PYTHONPATH={ROOT}", "--method", "tools/list")
    assert {tool["name"] for tool in (await inspect(tmp_path, *command, *options))["tools"]} == TOOLS.keys()


async def ask_claude(home: Path, *arguments: str) -> str:
    """What Claude Code printed."""
    process = await asyncio.create_subprocess_exec(
        *(str(MODULES / "@anthropic-ai" / "claude-code-linux-x64" / "claude"), "mcp", *arguments),
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "NO_PROXY": "127.0.0.1", "CI": "1", "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode()[-2000:]
    return output.decode()


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the agents are installed for Linux x86-64"
)
async def test_claude_code_connects_by_http_and_by_a_process(tmp_path: Path, upstream: FakeUpstream) -> None:
    assert MODULES.is_dir(), "`make test-clients` installs them"
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        address, key = f"{gateway.url}/mcp", "authorization: Bearer key-of-ada"
        await ask_claude(tmp_path, "add", "--transport", "http", "memory", address, "--header", key)
        await ask_claude(tmp_path, "add", "--transport", "http", "refused", address)
        command = (sys.executable, "-m", "gateway", "mcp", "--url", gateway.url)
        environment = ("-e", f"PYTHONPATH={ROOT}", "-e", "GATEWAY_KEY=key-of-ada")
        await ask_claude(tmp_path, "add", "process", *environment, "--", *command)
        states = dict(line.split(": ", 1) for line in (await ask_claude(tmp_path, "list")).splitlines() if ": " in line)
    assert "Connected" in states["memory"]
    assert "Connected" in states["process"]
    assert "Connected" not in states["refused"]
