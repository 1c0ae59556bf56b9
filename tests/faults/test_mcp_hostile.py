"""What a hostile or broken client of MCP sends: bytes and JSON of every kind, which neither harm nor delay others."""

import asyncio
import json
import random
import time
from typing import Any

import pytest

from tests.conftest import Scale
from tests.fakes.mcp import LATEST, McpClient
from tests.fakes.running import Running, eventually

METHODS = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "subscriptions/listen",
    "logging/setLevel",
    "notifications/initialized",
    "",
    "__init__",
]
NAMES = ["search_memory", "add_memory", "list_memories", "update_memory", "recall", "memory://profile", "_search", ""]
KEYS = ["name", "arguments", "uri", "cursor", "_meta", "id", "text", "query", "limit", "user", "cube_ids", "messages"]


class Nonsense:
    """Made-up messages, some of them almost valid."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        chance = self._chance
        kind = chance.random()
        if kind < 0.25 and depth < 4:
            return {chance.choice(KEYS): self.value(depth + 1) for _ in range(chance.randrange(4))}
        if kind < 0.4 and depth < 4:
            return [self.value(depth + 1) for _ in range(chance.randrange(4))]
        plain = [None, True, -1, 0, 2**63, 1e300, "", "x", "\u0000", "猫" * 50, "a" * 32, "2026-07-28", *NAMES]
        return chance.choice(plain)

    def message(self) -> Any:
        chance = self._chance
        if chance.random() < 0.1:
            return self.value()
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": chance.choice([1, "a", 0]), "method": chance.choice(METHODS)}
        params: Any = {
            "name": chance.choice(NAMES),
            "uri": chance.choice(NAMES),
            "arguments": {chance.choice(KEYS): self.value() for _ in range(3)},
            "protocolVersion": chance.choice(["2025-06-18", "x"]),
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        if chance.random() < 0.3:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": chance.choice([LATEST, "x", 1, None]),
                "io.modelcontextprotocol/clientCapabilities": self.value(3),
            }
        message["params"] = params if chance.random() < 0.8 else self.value()
        for name in ("jsonrpc", "id", "method"):
            if chance.random() < 0.08:
                message[name] = self.value()
        if chance.random() < 0.1:
            message.pop("id", None)
        return [message, self.value()] if chance.random() < 0.05 else message

    def headers(self, message: Any) -> dict[str, str]:
        """Headers that often fit the message."""
        chance = self._chance
        body = message if isinstance(message, dict) else {}
        params = body["params"] if isinstance(body.get("params"), dict) else {}
        field = "uri" if body.get("method") == "resources/read" else "name"
        fitting = {"mcp-method": str(body.get("method")), "mcp-name": str(params.get(field))}
        if not all(value.isascii() and value.isprintable() for value in fitting.values()) or chance.random() < 0.2:
            fitting = {}
        values = {
            "mcp-protocol-version": chance.choice(["", "2025-06-18", "2025-11-25", LATEST, LATEST, "x", "9" * 300]),
            "mcp-method": chance.choice(METHODS),
            "mcp-name": chance.choice(["", "recall", "=?base64?", "=?base64?!?=", "search_memory"]),
            **fitting,
            "mcp-session-id": chance.choice(["", "x"]),
        }
        return {"x-memory-user": "ada", **{name: value for name, value in values.items() if value}}


async def test_nonsense_is_answered_as_json_rpc_and_never_with_a_fault(gateway: Running, scale: Scale) -> None:
    nonsense = Nonsense(scale.seed)
    statuses = set()
    for _ in range(scale(1_500, 20_000)):
        message = nonsense.message()
        headers = nonsense.headers(message)
        reply = await gateway.post("/mcp", message, headers)
        statuses.add(reply.status)
        assert reply.status in (200, 202, 400, 404), (message, headers, reply.body)
        assert b"Traceback" not in reply.body
        if reply.status == 202:
            assert reply.body == b""
            continue
        for answer in reply.json if isinstance(reply.json, list) else [reply.json]:
            assert answer["jsonrpc"] == "2.0"
            assert ("result" in answer) is not ("error" in answer)
            assert isinstance(answer["id"], int | str | None)
            if "error" in answer:
                assert answer["error"]["code"] in (-32700, -32600, -32601, -32602, -32002, -32020, -32022), message
    assert statuses == {200, 202, 400, 404}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping"',
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b"[" + b"1," * 500_000 + b"1]",
        b"1" * 100_000,
    ],
    ids=("empty", "brace", "bytes", "cut", "arrays", "objects", "values", "digits"),
)
async def test_bytes_that_are_no_message_are_refused(gateway: Running, raw: bytes) -> None:
    reply = await gateway.post("/mcp", None, raw=raw)
    assert (reply.status, reply.json["id"]) == (400, None)
    assert reply.error["code"] in (-32700, -32600)


async def test_a_message_has_a_limit_of_its_own(gateway: Running) -> None:
    reply = await gateway.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y" * 2**22}})
    assert (reply.status, reply.error["data"]["code"]) == (413, "request_too_large")


async def test_large_calls_do_not_hold_up_the_loop(gateway: Running) -> None:
    client = McpClient(gateway, {"x-memory-user": "ada"})
    messages = [{"role": "user", "content": f"Note {number}: " + "the harbour is calm. " * 90} for number in range(50)]
    for _ in range(3):
        await client.call("add_memory", messages=messages)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    try:
        await client.call("list_memories", limit=200)
        await client.call("search_memory", query="peanuts " * 1_000, limit=50, min_relevance=0)
        await client.call("get_profile")
    finally:
        watching.cancel()
    assert longest < 0.5


async def test_a_client_that_goes_away_leaves_nothing_behind(gateway: Running) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_profile", "arguments": {}}}
    head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-memory-user: ada\r\n"
    body = json.dumps(message).encode()
    for _ in range(20):
        _, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async def is_idle() -> bool:
        metrics = (await gateway.get("/metrics")).body.decode()
        return "gateway_in_flight_requests 1.0" in metrics  # this one

    await eventually(is_idle)
