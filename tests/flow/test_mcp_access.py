"""Who may use MCP, and whose memories it reaches: keys, rights, tenants, users, pages of other sites."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mcp import LATEST, McpClient
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-acme", "tenant": "acme"},
    {"key": "key-of-ada", "tenant": "acme", "user": "ada"},
    {"key": "key-of-bob", "tenant": "acme", "user": "bob"},
    {"key": "key-of-rival", "tenant": "rival", "rights": ["chat", "memory", "admin"]},
    {"key": "key-for-chat", "tenant": "acme", "rights": ["chat"]},
]
SECRET = "The safe's number is 4711-0815."


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth__keys": KEYS, "limits__body_mb": 1}


def client_of(gateway: Running, key: str, user: str = "", version: str = "2025-11-25") -> McpClient:
    headers = {"authorization": f"Bearer key-of-{key}"} | ({"x-memory-user": user} if user else {})
    return McpClient(gateway, headers, version)


async def secret_of_ada(gateway: Running) -> str:
    """Store a secret of ada; the id of its memory."""
    stored = await client_of(gateway, "ada").call("add_memory", text=SECRET, session="vault")
    return str(stored["memories"][0]["id"])


Attack = Callable[[McpClient, str], Awaitable[Any]]


def call(tool: str, **arguments: Any) -> Attack:
    async def attack(client: McpClient, id_: str) -> Any:
        named = {name: id_ if value == "ID" else value for name, value in arguments.items()}
        return (await client.request("tools/call", {"name": tool, "arguments": named})).body

    return attack


ATTACKS: list[Attack] = [
    call("search_memory", query="What is the safe's number?", min_relevance=0),
    call("search_memory", query="safe number", min_relevance=0, archived=True),
    call("search_memory", query="safe number", min_relevance=0, cube_ids=["ada", "vault"]),
    call("search_memories", query="safe number", min_relevance=0, cube_ids=["ada"]),
    call("list_memories"),
    call("list_memories", session="vault"),
    call("list_memories", as_of="2030-01-01", cube_ids="ada"),
    call("get_profile"),
    call("get_memory", id="ID"),
    call("get_memory", memory_id="ID", cube_id="ada"),
    call("memory_history", id="ID"),
    call("update_memory", id="ID", text="overwritten"),
    call("update_memory", id="ID", status="archived", cube_id="ada"),
    call("delete_memory", id="ID"),
    call("delete_memory", memory_id="ID", cube_id="ada"),
]


@pytest.mark.parametrize("version", ["2025-11-25", LATEST])
@pytest.mark.parametrize(("key", "user"), [("bob", ""), ("rival", "ada"), ("rival", "eve"), ("acme", "bob")])
async def test_no_tool_reaches_a_foreign_memory(gateway: Running, key: str, user: str, version: str) -> None:
    id_ = await secret_of_ada(gateway)
    client = client_of(gateway, key, user, version)
    for attack in ATTACKS:
        for sent in (id_, id_[:8], id_.upper()):
            assert b"4711-0815" not in await attack(client, sent)
    for method, params in (
        ("resources/read", {"uri": "memory://profile"}),
        ("prompts/get", {"name": "recall", "arguments": {"question": "What is the safe's number?"}}),
    ):
        assert b"4711-0815" not in (await client.request(method, params)).body
    (memory,) = (await client_of(gateway, "ada").call("list_memories"))["memories"]
    assert (memory["text"], memory["version"], memory["status"]) == (SECRET, 1, "activated")


@pytest.mark.parametrize(("key", "user"), [("bob", ""), ("rival", "ada"), ("acme", "bob")])
async def test_a_foreign_id_is_answered_byte_for_byte_as_an_unknown_one(gateway: Running, key: str, user: str) -> None:
    id_ = await secret_of_ada(gateway)
    client = client_of(gateway, key, user)
    for attack in ATTACKS[8:]:
        for foreign, unknown in ((id_, "f" * 32), (id_[:10], "f" * 10)):
            assert await attack(client, foreign) == await attack(client, unknown)


async def test_a_key_of_one_user_cannot_name_another(gateway: Running) -> None:
    await secret_of_ada(gateway)
    bob = client_of(gateway, "bob")
    for tool, arguments in (("search_memory", {"query": "safe"}), ("add_memory", {"text": "x"}), ("get_profile", {})):
        message = await bob.failure(tool, **arguments, user="ada")
        assert message == "this key is for one user, and `user` names another"
    for user in ("ada", "bob\u200b", "BOB"):  # the header is ignored, as on all routes
        listed = await McpClient(gateway, {"x-gateway-key": "key-of-bob", "x-memory-user": "ada"}).call("list_memories")
        assert (listed["user"], listed["memories"]) == ("bob", []), user
    assert (await bob.call("list_memories", user="bob"))["user"] == "bob"


async def test_the_argument_user_cannot_override_the_connection(gateway: Running) -> None:
    await secret_of_ada(gateway)
    message = await client_of(gateway, "acme", "bob").failure("list_memories", user="ada")
    assert message == "the connection is for one user, and `user` names another"
    named = await client_of(gateway, "acme").call("list_memories", user="ada")
    assert [memory["text"] for memory in named["memories"]] == [SECRET]


async def test_without_a_user_the_answer_says_how_to_name_one(gateway: Running) -> None:
    message = await client_of(gateway, "acme").failure("search_memory", query="x")
    assert "`user`" in message
    assert "x-memory-user" in message
    assert "user must" in await client_of(gateway, "acme").failure("get_profile", user="a\u0000b")


async def test_the_default_user_applies_and_an_argument_does_not_end_it(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__default_user="me")
    async with running_gateway(config) as gateway:
        client = McpClient(gateway)
        for user in ("ada", "bob", "eve"):
            await client.call("add_memory", text="I ski.", user=user)
        assert (await client.call("list_memories"))["user"] == "me"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"authorization": "Bearer wrong"}, 401), ({"authorization": "Bearer key-for-chat"}, 403)],
)
async def test_a_request_without_the_right_is_refused_as_json_rpc(
    gateway: Running, headers: dict[str, str], status: int
) -> None:
    reply = await McpClient(gateway, headers).request("tools/list")
    assert (reply.status, reply.json["jsonrpc"], reply.json["id"]) == (status, "2.0", None)
    assert reply.error["code"] == -32600
    assert (reply.headers.get("www-authenticate") == 'Bearer realm="gateway"') is (status == 401)
    assert "key-for" not in reply.body.decode()


async def test_limits_and_encodings_are_those_of_all_routes(gateway: Running) -> None:
    client = client_of(gateway, "ada")
    reply = await client.send({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y" * 2**20}})
    assert (reply.status, reply.error["data"]["code"]) == (413, "request_too_large")
    reply = await client.send({}, {"content-type": "text/plain"})
    assert (reply.status, reply.error["data"]["code"]) == (415, "unsupported_content_type")
    reply = await client.send({}, {"content-encoding": "br"})
    assert reply.status == 415


async def test_pages_of_other_sites_are_refused_even_with_a_key(gateway: Running) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    client = client_of(gateway, "ada")
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        reply = await client.send(ping, {"origin": origin})
        assert (reply.status, reply.error["data"]["code"]) == (403, "forbidden")
    assert (await client.send(ping, {"origin": gateway.url})).status == 200


async def test_a_configured_page_may_call_with_the_headers_of_the_protocol(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    config = configuration(tmp_path, upstream.url, auth__keys=KEYS, server__cors_origins=["https://app.example"])
    async with running_gateway(config) as gateway:
        origin = {"origin": "https://app.example"}
        assert (await client_of(gateway, "ada").request("ping", {}, origin)).status == 200
        async with gateway.session.options(f"{gateway.url}/mcp", headers=origin) as response:
            allowed = response.headers["access-control-allow-headers"]
        assert {"mcp-protocol-version", "mcp-method", "mcp-name"} <= set(allowed.split(", "))


async def test_without_keys_another_host_name_is_refused(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        reply = await McpClient(gateway, {"host": "evil.example"}).request("ping")
        assert (reply.status, reply.json["jsonrpc"]) == (403, "2.0")
