"""`gateway mcp`: MCP on standard input and output, with a running gateway and with one of its own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mcp import McpClient
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

ROOT = Path(__file__).parents[2]
META = "io.modelcontextprotocol/"
ENVELOPE = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}
INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Command:
    """A running `gateway mcp`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.input, self.output, self.errors = process.stdin, process.stdout, process.stderr

    async def send(self, *messages: Any) -> None:
        for message in messages:
            self.input.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
        await self.input.drain()

    async def receive(self) -> Any:
        async with asyncio.timeout(60):
            return json.loads(await self.output.readline())

    async def request(self, method: str, params: Mapping[str, Any], id_: int | str = 1) -> Any:
        await self.send({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})
        answer = await self.receive()
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", id_)
        return answer

    async def end(self) -> tuple[int | None, list[bytes], str]:
        """Close the input; the exit status, the lines that were still written, and the standard error."""
        self.input.close()
        async with asyncio.timeout(60):
            output, errors = await asyncio.gather(self.output.read(), self.errors.read())
            return await self.process.wait(), output.splitlines(), errors.decode()


@asynccontextmanager
async def command(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "mcp", *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def add(text: str) -> dict[str, Any]:
    return {"name": "add_memory", "arguments": {"text": text}}


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth__keys": [{"key": "key-of-acme", "tenant": "acme"}]}


async def test_messages_of_both_forms_reach_a_running_gateway(gateway: Running, tmp_path: Path) -> None:
    key = {"GATEWAY_KEY": "key-of-acme"}
    async with command(tmp_path, "--url", gateway.url, "--user", "ada", environment=key) as bridge:
        started = await bridge.request("initialize", INITIALIZE, "first")
        assert started["result"]["protocolVersion"] == "2025-06-18"
        await bridge.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        stored = await bridge.request("tools/call", add("My cat is called Miso."))
        assert stored["result"]["structuredContent"]["user"] == "ada"
        stateless = await bridge.request("tools/call", {**add("猫 is the word for cat."), "_meta": ENVELOPE})
        assert stateless["result"]["resultType"] == "complete"
        odd = await bridge.request("prompts/get", {"name": "猫\n", "_meta": ENVELOPE})
        assert odd["error"]["message"].startswith("there is no such prompt")
        assert (await bridge.end())[:2] == (0, [])
    client = McpClient(gateway, {"x-gateway-key": "key-of-acme", "x-memory-user": "ada"})
    texts = {memory["text"] for memory in (await client.call("list_memories"))["memories"]}
    assert texts == {"My cat is called Miso.", "猫 is the word for cat."}


async def test_an_error_of_the_gateway_answers_the_request(gateway: Running, tmp_path: Path) -> None:
    async with command(tmp_path, "--url", gateway.url, environment={"GATEWAY_KEY": ""}) as bridge:
        # without a key the gateway is healthy, and refuses
        refused = await bridge.request("tools/list", {}, 7)
        assert refused["error"]["data"]["code"] == "invalid_api_key"
        await bridge.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, b"\n")
        await bridge.send(b"no JSON\n", b"[1]\n", b"\xff\xfe\n", b'{"jsonrpc": "2.0", "id": null, "method": "ping"}\n')
        answers = [await bridge.receive() for _ in range(4)]
        assert {answer["id"] for answer in answers} == {None}
        assert sorted(answer["error"]["code"] for answer in answers) == [-32700, -32700, -32700, -32600]
        assert (await bridge.end())[0] == 0


async def test_many_requests_at_once_are_all_answered_before_the_end(gateway: Running, tmp_path: Path) -> None:
    key = {"GATEWAY_KEY": "key-of-acme"}
    async with command(tmp_path, "--url", gateway.url, "--user", "ada", environment=key) as bridge:
        requests = [{"jsonrpc": "2.0", "id": id_, "method": "tools/list"} for id_ in range(100)]
        await bridge.send(*requests)
        status, lines, _ = await bridge.end()
    assert status == 0
    assert {json.loads(line)["id"] for line in lines} == set(range(100))


async def test_without_a_running_gateway_it_runs_one_on_the_same_folder(tmp_path: Path, upstream: FakeUpstream) -> None:
    keys = [{"key": "key-of-acme", "tenant": "acme", "user": "ada"}]
    configuration(tmp_path, upstream.url, auth__keys=keys, server__port=9)  # where nothing listens
    key = {"GATEWAY_KEY": "key-of-acme"}
    async with command(tmp_path, environment=key) as bridge:
        await bridge.request("initialize", INITIALIZE)
        stored = await bridge.request("tools/call", add("My cat is called Miso."))
        assert stored["result"]["structuredContent"]["user"] == "ada"
        status, lines, errors = await bridge.end()
        assert (status, lines) == (0, [])
        assert "no gateway runs at http://127.0.0.1:9" in errors
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=keys)) as gateway:
        client = McpClient(gateway, {"x-gateway-key": "key-of-acme"})
        assert [memory["text"] for memory in (await client.call("list_memories"))["memories"]] == [
            "My cat is called Miso."
        ]


async def test_an_address_where_no_gateway_answers_is_an_error(tmp_path: Path) -> None:
    configuration(tmp_path, "http://127.0.0.1:9")
    async with command(tmp_path, "--url", "http://127.0.0.1:9") as bridge:
        status, lines, errors = await bridge.end()
    assert (status, lines) == (1, [])
    assert "no gateway answers at http://127.0.0.1:9" in errors
