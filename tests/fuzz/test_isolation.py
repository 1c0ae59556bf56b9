"""Nobody reaches another's memory, whatever is sent: hostile requests of every kind, and what they may not change."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.routes import memos_operations
from tests.conftest import Scale
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-acme-app", "tenant": "acme"},
    {"key": "key-of-acme-bob", "tenant": "acme", "user": "bob"},
    {"key": "key-of-other-app", "tenant": "other"},
    {"key": "key-of-other-admin", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]
VICTIM = {"x-gateway-key": "key-of-acme-app", "x-memory-user": "alice"}
CANARY = "canary7f3a"
SECRETS = [f"My {thing} is {CANARY}{number}." for number, thing in enumerate(("boat", "safe code", "diary", "猫"))]
# bob is pinned within the victim's tenant; the others are of another tenant and may name any user
ATTACKERS = ["key-of-acme-bob", "key-of-other-app", "key-of-other-admin"]
USERS = [
    "alice",
    "bob",
    "ALICE",
    "alice ",
    "al\u200bice",
    "alice\u0000",
    "*",
    "%",
    "' OR 1=1 --",
    "alice' --",
    "../alice",
    "acme/alice",
    "alice\n",
    "ａｌｉｃｅ",
    "",
    "a" * 300,
]
METHODS = {path: operation.method for operation in memos_operations(ChatHandlers(1)) for path in operation.paths}
PATHS = sorted(METHODS)
OWN = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/memory/forget",
    "/v1/memory/import",
    "/v1/memory/export",
    "/v1/memory/reindex",
    "/v1/memory/explain/{id}",
    "/v1/turns",
    "/v1/gateway/config",
    "/v1/gateway/keys",
    "/mcp",
]
MEMORY: list[tuple[str, str, Any]] = [
    ("GET", "/v1/memory/{id}", None),
    ("PATCH", "/v1/memory/{id}", {"text": "overwritten"}),
    ("PATCH", "/v1/memory/{id}", {"status": "archived", "version": 1}),
    ("DELETE", "/v1/memory/{id}", None),
    ("GET", "/v1/memory/history/{id}", None),
    ("POST", "/v1/memory/undo/{id}", {}),
    ("GET", "/v1/memory/list?user={user}&cube=alice&limit=1000", None),
    ("GET", "/v1/memory/list?user={user}&archived=true&tenant=acme", None),
    ("GET", "/v1/memory/search?user={user}&query=boat+safe+code+diary", None),
    ("GET", "/v1/memory/timeline?user={user}", None),
    ("GET", "/v1/memory/user-export?user={user}&tenant=acme", None),
    ("GET", "/v1/memory/users?tenant=acme", None),
    ("POST", "/v1/memory", {"user": "{user}", "text": "The weather is nice."}),
    ("POST", "/v1/memory/delete", {"user": "{user}", "ids": ["{id}"]}),
    ("POST", "/v1/memory/delete", {"user": "{user}", "filter": {"query": "canary"}}),
    ("POST", "/v1/memory/delete", {"user": "{user}", "filter": {"archived": False}, "preview": True}),
    ("GET", "/v1/me?user={user}", None),
    ("GET", "/v1/me/memories?user={user}", None),
    ("GET", "/v1/me/export?user={user}", None),
    ("DELETE", "/v1/me?confirm={user}", None),
]
SEARCH, BY_ID = ("query", "min_relevance", "limit", "archived", "user", "cube_ids"), ("id", "user", "cube_ids")
ALLOWED = {
    "search_memory": SEARCH,
    "search_memories": SEARCH,
    "add_memory": ("text", "session", "user", "cube_ids"),
    "list_memories": ("limit", "archived", "session", "user", "cube_ids"),
    **dict.fromkeys(("get_memory", "delete_memory", "memory_history"), BY_ID),
    "update_memory": (*BY_ID, "text"),
    "get_profile": ("user", "cube_ids"),
}
"""The arguments of the tools of MCP."""
NEEDED = ("query", "text", "id")
FIELDS = [
    "user_id",
    "mem_cube_id",
    "readable_cube_ids",
    "writable_cube_ids",
    "knowledgebase_ids",
    "session_id",
    "filter",
    "conversation_id",
    "agent_id",
    "memory_ids",
    "memory_id",
    "user",
    "metadata",
    "safety_identifier",
    "tenant",
    "scope",
]
# required by some operations: without them a request is refused before it names anything of the victim
NAMES_NEEDED = [
    "knowledgebase_id",
    "knowledgebase_name",
    "mem_cube_name_or_path",
    "memory_id",
    "profile_template_id",
    "record_id",
    "task_id",
]


@pytest.fixture
async def fortress(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Running]:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        for number, secret in enumerate(SECRETS):
            body = {"model": "fake-1", "messages": [{"role": "user", "content": secret}]}
            headers = {**VICTIM, "x-memory-session": f"s{number}"}
            assert (await gateway.post("/v1/chat/completions", body, headers)).status == 200
        await gateway.settled()
        upstream.received.clear()
        yield gateway


async def victims_memory(gateway: Running) -> list[str]:
    body = {"user_id": "alice", "page": 1, "size": 100}
    reply = await gateway.post(
        "/product/get_all", {**body, "memory_type": "text_mem"}, {"x-gateway-key": KEYS[0]["key"]}
    )
    assert reply.status == 200, reply.body
    return sorted(set(_strings(reply.json, CANARY)))


def _strings(value: Any, mark: str) -> list[str]:
    if isinstance(value, str):
        return [value] if mark in value else []
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value for found in _strings(item, mark)] if isinstance(value, list) else []


class Attacker:
    def __init__(self, seed: int, ids: list[str]) -> None:
        self._chance = random.Random(seed)
        self._ids = ids

    def request(self) -> tuple[str, str, dict[str, str], bytes | None]:
        """Method, path, headers, body."""
        chance = self._chance
        if chance.random() < 0.15:
            return self._memory_request()
        path = chance.choice(PATHS if chance.random() < 0.75 else OWN)
        method = METHODS.get(path, "POST") if chance.random() < 0.85 else "GET"
        path = path.replace("{memory_id}", chance.choice(self._ids)).replace("{id}", chance.choice(self._ids))
        headers = {"x-gateway-key": chance.choice(ATTACKERS), "content-type": "application/json"}
        if chance.random() < 0.5:
            headers["x-memory-user"] = self._header(chance.choice(USERS))
        if chance.random() < 0.2:
            headers["x-memory-session"] = self._header(chance.choice(["s0", "s1", *USERS]))
        if path == "/mcp":
            return "POST", path, headers, self._tool_call()
        if method == "GET":
            return method, f"{path}?user_id=alice&tenant=acme&user=alice&user_name=alice&task_id=x", headers, None
        return method, path, headers, self._body()

    def _memory_request(self) -> tuple[str, str, dict[str, str], bytes | None]:
        """A request to the memory API, for an id of the victim or a part of it, or in the name of a user."""
        chance = self._chance
        method, path, body = chance.choice(MEMORY)
        id_, user = chance.choice(self._ids), chance.choice(["alice", "alice", "bob", *USERS])
        path = path.replace("{id}", id_[: chance.choice([6, 31, 32])]).replace("{user}", quote(user, safe=""))
        raw = None if body is None else json.dumps(body).replace("{id}", id_)
        if raw is not None:
            raw = raw.replace('"{user}"', json.dumps(user))
        headers = {"x-gateway-key": chance.choice(ATTACKERS), "content-type": "application/json"}
        return method, path, headers, None if raw is None else raw.encode()

    def _body(self) -> bytes:
        chance = self._chance
        body: dict[str, Any] = {
            "model": "fake-1",
            "messages": [{"role": "user", "content": self._question()}],
            "query": self._question(),
            "user_id": chance.choice(["bob", "alice", *USERS]),
            "relativity": 0,
            "top_k": 25,
            "stream": chance.random() < 0.1,
            "mem_cube_id": "alice",
            "input": "x",
            "feedback_content": "forget it",
            **{field: chance.choice([*self._ids, "alice"]) for field in NAMES_NEEDED},
            "memory_ids": [chance.choice(self._ids)],
            "memory_type": "text_mem",
        }
        for field in chance.sample(FIELDS, chance.randint(0, 5)):
            body[field] = self._value()
        raw = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "replace")
        if chance.random() < 0.2:  # doubled names: the last one counts
            raw = raw[:-1] + b', "user_id": "alice", "mem_cube_id": "alice"}'
        return raw

    def _tool_call(self) -> bytes:
        chance = self._chance
        memory_id = chance.choice(self._ids)
        arguments: dict[str, Any] = {
            "query": self._question(),
            "text": "mine now",
            "id": chance.choice([memory_id, memory_id[:6], memory_id.upper(), f"{memory_id[:-1]}%"]),
            "min_relevance": 0,
            "limit": 50,
            "user": chance.choice(USERS),
            "cube_ids": self._value(),
            "archived": chance.random() < 0.3,
            "session": chance.choice(["s0", "s1"]),
        }
        tool = chance.choice(list(ALLOWED))
        kept = [name for name in ALLOWED[tool] if name in NEEDED or chance.random() < 0.4]
        params = {"name": tool, "arguments": {name: arguments[name] for name in kept}}
        message: Any = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        if chance.random() < 0.1:
            message |= {"method": "resources/read", "params": {"uri": "memory://profile"}}
        if chance.random() < 0.1:
            prompt = {"name": "recall", "arguments": {"question": self._question()}}
            message |= {"method": "prompts/get", "params": prompt}
        return json.dumps([message, message] if chance.random() < 0.1 else message).encode("utf-8", "replace")

    def _question(self) -> str:
        return self._chance.choice(
            [
                "What is my boat?",
                "safe code",
                "diary 猫",
                "show all memories of alice",
                "boat safe code diary",
                "ignore",
                "x" * 50,
            ]
        )

    def _value(self) -> Any:
        chance = self._chance
        users: list[Any] = [chance.choice(USERS) for _ in range(2)]
        return chance.choice(
            [
                "alice",
                users,
                ["alice", "bob"],
                chance.choice(self._ids),
                self._ids[:3],
                {"user_id": "alice"},
                {"and": [{"user_id": "alice"}]},
                {"or": [{"user_id": "alice"}, {"memory": {"like": "%"}}]},
                {"alice": {"and": [{"created_at": {"gt": "1970-01-01"}}]}},
                {"user": {"info.x": {"contains": "'"}}},
                {"and": [{"scope": {"in": ["a" * 64]}}]},
                "acme",
                None,
                7,
                True,
                {"$ne": None},
                ["*"],
                ["all"],
            ]
        )

    def _header(self, value: str) -> str:
        return "".join(one for one in value if one.isprintable() and ord(one) < 256) or "bob"


async def test_hostile_requests_reach_nothing_of_anothers(
    fortress: Running, upstream: FakeUpstream, scale: Scale
) -> None:
    before = await victims_memory(fortress)
    assert len(before) == len(SECRETS)
    reply = await fortress.post("/product/search", {"user_id": "alice", "query": "boat", "relativity": 0}, VICTIM)
    ids = sorted({item["id"] for group in reply.json["data"]["text_mem"] for item in group["memories"]})
    assert ids
    statuses = Counter[int]()
    for seed in range(scale.seed, scale.seed + scale(1, 20)):
        attacker = Attacker(seed, ids)
        requests = [attacker.request() for _ in range(scale(900, 1_500))]
        for begin in range(0, len(requests), 8):
            attacks = (_attack(fortress, *one, seed=seed) for one in requests[begin : begin + 8])
            statuses.update(await asyncio.gather(*attacks))
        for sent in upstream.received:
            assert CANARY.encode() not in sent.body, (seed, sent.body)
        upstream.received.clear()
    assert await victims_memory(fortress) == before, "unchanged"
    assert statuses[200] > statuses.total() / 5, f"most were refused before they could do harm: {statuses}"


async def _attack(
    gateway: Running, method: str, path: str, headers: dict[str, str], body: bytes | None, *, seed: int
) -> int:
    try:
        async with gateway.session.request(method, gateway.url + path, data=body, headers=headers) as response:
            answer = await response.read()
    except aiohttp.ClientPayloadError:
        return 0  # a stream that was cut
    assert response.status < 500 or response.status == 503, (seed, response.status, path, body, answer[:300])
    assert CANARY.encode() not in answer, (seed, path, headers, body, answer)
    assert b"Traceback" not in answer
    return response.status


@pytest.mark.parametrize("key", ATTACKERS)
async def test_a_foreign_id_is_answered_byte_for_byte_as_an_unknown_one(fortress: Running, key: str) -> None:
    reply = await fortress.post("/product/search", {"user_id": "alice", "query": "boat", "relativity": 0}, VICTIM)
    (foreign, *_) = [item["id"] for group in reply.json["data"]["text_mem"] for item in group["memories"]]
    unknown = "0" * 32
    headers = {"x-gateway-key": key}
    for path, body in [
        ("/product/get_memory_by_ids", {"memory_ids": ["ID"]}),
        ("/product/delete_memory", {"memory_ids": ["ID"], "writable_cube_ids": ["alice"]}),
        ("/product/update/memory", {"memory_id": "ID", "content": "x", "memory_value": "x"}),
        ("/product/delete/memory", {"memory_ids": ["ID"]}),
        ("/product/get_user_names_by_memory_ids", {"memory_ids": ["ID"]}),
    ]:
        answers = []
        for id_ in (foreign, unknown):
            raw = json.dumps(body).replace("ID", id_).encode()
            found = await fortress.post(path, None, headers, raw=raw)
            answers.append((found.status, found.body.replace(id_.encode(), b"ID")))
        assert answers[0] == answers[1], path
    for tool in ("get_memory", "memory_history", "update_memory", "delete_memory"):
        answers = []
        for id_ in (foreign, unknown):
            arguments = {"id": id_, "user": "bob", **({"text": "x"} if tool == "update_memory" else {})}
            params = {"name": tool, "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            found = await fortress.post("/mcp", message, headers)
            assert found.json["result"]["isError"]
            answers.append((found.status, found.body))
        assert answers[0] == answers[1], tool
    for path in (
        "/product/get_memory/{}",
        "/product/get/memory/{}",
        "/v1/memory/explain/{}",
        "/v1/memory/{}",
        "/v1/memory/history/{}",
    ):
        answers = []
        for id_ in (foreign, unknown):
            found = await fortress.get(path.format(id_), headers)
            answers.append((found.status, found.body.replace(id_.encode(), b"ID")))
        assert answers[0] == answers[1], path
