"""Tenants, users and rights on the memory API: a foreign memory is as unknown as none, on every route."""

import json
from typing import Any

import pytest

from tests.fakes.running import Reply, Running
from tests.fakes.upstream import FakeUpstream

KEYS = {
    "acme": "key-of-acme-1",
    "rival": "key-of-rival-1",
    "pinned": "key-of-eve-at-acme",
    "admin": "key-of-acme-admin",
    "rival-admin": "key-of-rival-admin",
    "chat": "key-for-chat-only",
    "memory": "key-for-memory-only",
}
SECRET = "I am allergic to nuts. The number of the safe is 4711-0815."
UNKNOWN = "f" * 32
FOREIGN = ("rival", "rival-admin", "pinned")


@pytest.fixture
def changes() -> dict[str, Any]:
    admin = ["chat", "memory", "admin"]
    return {
        "auth__keys": [
            {"key": KEYS["acme"], "tenant": "acme"},
            {"key": KEYS["rival"], "tenant": "rival"},
            {"key": KEYS["pinned"], "tenant": "acme", "user": "eve", "name": "eve's"},
            {"key": KEYS["admin"], "tenant": "acme", "rights": admin},
            {"key": KEYS["rival-admin"], "tenant": "rival", "rights": admin},
            {"key": KEYS["chat"], "tenant": "acme", "user": "ada", "rights": ["chat"]},
            {"key": KEYS["memory"], "tenant": "acme", "user": "ada", "rights": ["memory"]},
        ]
    }


async def call(gateway: Running, who: str, method: str, path: str, body: Any = None) -> Reply:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {KEYS[who]}"} if who else {}
    async with gateway.session.request(method, gateway.url + path, data=data, headers=headers) as response:
        return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())


async def told(gateway: Running, who: str = "acme", user: str = "ada") -> list[str]:
    """The ids of a memory, and of the preference in it."""
    reply = await call(gateway, who, "POST", "/v1/memory", {"user": user, "text": SECRET, "session": "c1"})
    assert reply.status == 201, reply.body
    return [memory["id"] for memory in reply.json["data"]]


async def test_every_route_of_the_document_is_tried_here(gateway: Running) -> None:
    """A new route needs a test of its own."""
    paths = (await gateway.get("/openapi.json")).json["paths"]
    routes = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/v1/me") and not path.startswith("/v1/messages")
    }
    tried = {(method, path) for method, path, _ in (*BY_ID, *BY_USER, *ADMIN, *ME)}
    assert routes == {(method, path.partition("?")[0]) for method, path in tried}


BY_ID: list[tuple[str, str, Any]] = [
    ("GET", "/v1/memory/{id}", None),
    ("PATCH", "/v1/memory/{id}", {"text": "overwritten"}),
    ("DELETE", "/v1/memory/{id}", None),
    ("DELETE", "/v1/memory/{id}?preview=true", None),
    ("GET", "/v1/memory/history/{id}", None),
    ("POST", "/v1/memory/undo/{id}", {}),
    ("GET", "/v1/memory/explain/{id}", None),
]
BY_USER: list[tuple[str, str, Any]] = [
    ("GET", "/v1/memory/list?user=USER", None),
    ("GET", "/v1/memory/list?user=USER&cube=ada&session=c1", None),
    ("GET", "/v1/memory/list?user=USER&standing=true", None),
    ("GET", "/v1/memory/search?user=USER&query=number+of+the+safe", None),
    ("GET", "/v1/memory/timeline?user=USER", None),
    ("GET", "/v1/memory/user-export?user=USER", None),
    ("POST", "/v1/memory/delete", {"user": "USER", "filter": {"query": "safe"}}),
    ("POST", "/v1/memory/delete", {"user": "USER", "filter": {"session": "c1"}, "preview": True}),
    ("POST", "/v1/memory", {"user": "USER", "text": "The weather is nice."}),
]
ADMIN: list[tuple[str, str, Any]] = [
    ("GET", "/v1/memory/users", None),
    ("GET", "/v1/memory/users?tenant=acme", None),
    ("GET", "/v1/memory/users?query=ada", None),
    ("GET", "/v1/memory/export", None),
    ("GET", "/v1/memory/export?tenant=acme", None),
    ("POST", "/v1/memory/import", {}),
    ("POST", "/v1/memory/forget", {"user": "ada", "purge": True}),
    ("GET", "/v1/memory/reindex", None),
    ("POST", "/v1/memory/reindex", {}),
]
ME: list[tuple[str, str, Any]] = [
    ("GET", "/v1/me", None),
    ("GET", "/v1/me/memories", None),
    ("GET", "/v1/me/memories?user=ada", None),
    ("GET", "/v1/me/export", None),
    ("GET", "/v1/me/export?user=ada", None),
    ("DELETE", "/v1/me?confirm=eve", None),
    ("DELETE", "/v1/me?confirm=ada", None),
]


@pytest.mark.parametrize("who", FOREIGN)
async def test_a_foreign_id_is_answered_as_an_unknown_one(gateway: Running, who: str) -> None:
    message, preference = await told(gateway)
    await told(gateway, who if who != "pinned" else "acme", "eve")  # they have memories of their own
    for id_ in (message, preference, message[:6], message[:31], message.upper()):
        for method, path, body in BY_ID:
            foreign = await call(gateway, who, method, path.replace("{id}", id_), body)
            unknown = await call(gateway, who, method, path.replace("{id}", UNKNOWN[: len(id_)]), body)
            assert (foreign.status, foreign.body) == (unknown.status, unknown.body), (method, path)
            assert foreign.status == 404
    for ids in ([message, preference], [UNKNOWN]):
        for is_preview in (True, False):
            body = {"user": "eve", "ids": ids, "preview": is_preview}
            answer = (await call(gateway, who, "POST", "/v1/memory/delete", body)).json
            assert (answer["count"], answer["data"], answer["derived"], answer["updated"]) == (0, [], [], [])
    await assert_unharmed(gateway, message)


async def assert_unharmed(gateway: Running, message: str) -> None:
    """The memory of ada at acme is as it was."""
    reply = await call(gateway, "acme", "GET", f"/v1/memory/{message}")
    assert (reply.status, reply.json["text"], reply.json["version"]) == (200, SECRET, 1)
    assert len((await call(gateway, "acme", "GET", "/v1/memory/list?user=ada")).json["data"]) == 2


@pytest.mark.parametrize("who", [*FOREIGN, "acme"])
@pytest.mark.parametrize("user", ["ada", "eve"])
async def test_no_route_shows_or_harms_the_memories_of_another_user(gateway: Running, who: str, user: str) -> None:
    if (who, user) == ("acme", "ada"):
        return  # its own
    message, _ = await told(gateway)
    for method, path, body in (*ADMIN, *BY_USER, *ME):
        if who == "rival-admin" and path.endswith("/forget"):
            assert (await call(gateway, who, method, path, body)).json == {"deleted": 0, "purged": True}
            continue
        text = json.dumps(body).replace("USER", user)
        reply = await call(gateway, who, method, path.replace("USER", user), json.loads(text))
        assert b"4711-0815" not in reply.body, path
        assert b"nuts" not in reply.body, path
        if path.startswith("/v1/memory/users"):
            assert b"ada" not in reply.body, path
        if who == "pinned" and "USER" in path + json.dumps(body):
            assert (reply.status == 403) == (user == "ada"), path
    await assert_unharmed(gateway, message)


async def test_ids_of_another_user_are_not_deleted_under_a_users_name(gateway: Running) -> None:
    """A key for all users of a tenant may delete by id, and a deletion names whose memories it is about."""
    message, preference = await told(gateway)
    body = {"user": "eve", "ids": [message, preference]}
    assert (await call(gateway, "acme", "POST", "/v1/memory/delete", body)).json["count"] == 0
    await assert_unharmed(gateway, message)


@pytest.mark.parametrize("who", ["chat", "", "memory", "acme", "pinned"])
async def test_each_route_needs_its_right(gateway: Running, upstream: FakeUpstream, who: str) -> None:
    message, _ = await told(gateway)
    needs_memory = [(method, path.replace("{id}", message), body) for method, path, body in BY_ID + BY_USER]
    routes = {"chat": [*needs_memory, *ADMIN, *ME[1:]], "": [*needs_memory, *ADMIN, *ME]}.get(who, ADMIN)
    for method, path, body in routes:
        reply = await call(gateway, who, method, path, body)
        assert reply.status == (403 if who else 401), path
        assert reply.error["code"] == ("forbidden" if who else "invalid_api_key")
    for path in ("/v1/memory/models/x", "/v1/me/chat", "/v1/memory//x/y"):
        assert (await call(gateway, who, "POST", path, {})).status in (401, 403, 404)
    assert not upstream.received
    await assert_unharmed(gateway, message)


async def test_an_admin_lists_the_users_of_the_own_tenant(gateway: Running) -> None:
    await told(gateway)
    await told(gateway, "rival", "mallory")
    listed = {who: (await call(gateway, who, "GET", "/v1/memory/users")).json for who in ("admin", "rival-admin")}
    assert [user["id"] for user in listed["admin"]["data"]] == ["ada"]
    assert [user["id"] for user in listed["rival-admin"]["data"]] == ["mallory"]
    assert listed["admin"]["data"][0]["memories"] == 2
