"""Self-service: a key that is pinned to a user sees, exports and erases that user's memories, and no others."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import Reply, Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream
from tests.flow.test_keeping import files_with

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-ada-lovelace", "user": "ada-lovelace", "name": "phone"},
    {"key": "key-of-app", "name": "app"},
    {"key": "key-of-ada-for-chats", "user": "ada-lovelace", "rights": ["chat"]},
    {"key": "key-of-ada-for-memory", "user": "ada-lovelace", "rights": ["memory"]},
]
ADA, APP, CHATS, MEMORY = ({"x-gateway-key": key["key"]} for key in KEYS)


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth__keys": KEYS}


async def erase(gateway: Running, query: str = "", body: Any = None, headers: dict[str, str] = ADA) -> Reply:
    data = None if body is None else json.dumps(body).encode()
    async with gateway.session.delete(f"{gateway.url}/v1/me{query}", data=data, headers=headers) as response:
        return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())


async def add(gateway: Running, text: str, user: str = "ada-lovelace") -> None:
    assert (await gateway.post("/v1/memory", {"user": user, "text": text}, APP)).status == 201


async def test_a_key_says_whose_it_is(gateway: Running) -> None:
    await add(gateway, "The kettle is new.")
    me = {"object": "me", "key": "phone", "tenant": "default", "user": "ada-lovelace", "default_user": None}
    assert (await gateway.get("/v1/me", ADA)).json == {
        **me,
        "rights": ["chat", "memory"],
        "is_open": False,
        "memories": 1,
    }
    app = (await gateway.get("/v1/me", APP)).json
    assert (app["key"], app["user"], app["memories"]) == ("app", None, None)
    for headers, rights, count in ((CHATS, ["chat"], None), (MEMORY, ["memory"], 1)):
        answer = (await gateway.get("/v1/me", headers)).json
        assert (answer["rights"], answer["memories"]) == (rights, count)
    assert (await gateway.get("/v1/me")).status == 401


@pytest.mark.parametrize("changes", [{"memory__default_user": "owner"}])
async def test_without_keys_the_default_user_is_named(gateway: Running) -> None:
    await gateway.post("/v1/memory", {"text": "The kettle is new."})
    me = (await gateway.get("/v1/me")).json
    assert (me["is_open"], me["key"], me["user"], me["default_user"], me["memories"]) == (True, None, None, "owner", 1)
    assert (await erase(gateway, "?confirm=owner", headers={})).error["code"] == "no_user_of_key"


async def test_the_memories_of_the_key_are_those_of_its_user(gateway: Running) -> None:
    await add(gateway, "I am allergic to nuts.")
    await add(gateway, "Bob likes trains.", "bob")
    listed = (await gateway.get("/v1/me/memories?limit=1&user=bob", MEMORY)).json
    assert listed == (await gateway.get("/v1/memory/list?user=ada-lovelace&limit=1", APP)).json
    assert (listed["total"], listed["has_more"]) == (2, True)
    standing = (await gateway.get("/v1/me/memories?standing=true", ADA)).json["data"]
    assert [memory["text"] for memory in standing] == ["I am allergic to nuts."]
    exported = await gateway.get("/v1/me/export?user=bob", ADA)
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    assert exported.body == (await gateway.get("/v1/memory/user-export?user=ada-lovelace", APP)).body
    assert {json.loads(line)["user_id"] for line in exported.body.splitlines()} == {"ada-lovelace"}


async def test_a_key_for_all_users_is_told_the_route_to_use(gateway: Running) -> None:
    await add(gateway, "The kettle is new.")
    for path, route in (("memories", "/v1/memory/list"), ("export", "/v1/memory/user-export")):
        reply = await gateway.get(f"/v1/me/{path}", APP)
        assert (reply.status, reply.error["code"]) == (400, "no_user_of_key")
        assert route in reply.error["message"]
    reply = await erase(gateway, "?confirm=ada-lovelace", headers=APP)
    assert (reply.status, reply.error["code"]) == (400, "no_user_of_key")
    assert "/v1/memory/forget" in reply.error["message"]
    assert (await gateway.get("/v1/me", ADA)).json["memories"] == 1


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", None),
        ("", {}),
        ("", {"confirm": "bob"}),
        ("", {"confirm": True}),
        ("", {"confirm": "ada-lovelace", "user": "bob"}),
        ("", []),
        ("?confirm=", None),
        ("?confirm=bob", {"confirm": "ada-lovelace"}),
        ("?confirm=true", None),
        ("?confirm=ada-lovelac", None),
    ],
)
async def test_an_erasure_must_be_confirmed_by_the_users_id(gateway: Running, query: str, body: Any) -> None:
    await add(gateway, "The kettle is new.")
    reply = await erase(gateway, query, body)
    assert reply.status == 400, reply.body
    assert (await gateway.get("/v1/me", ADA)).json["memories"] == 1


async def test_an_erasure_needs_the_right_to_memory(gateway: Running) -> None:
    await add(gateway, "The kettle is new.")
    for method in ("memories", "export"):
        assert (await gateway.get(f"/v1/me/{method}", CHATS)).status == 403
    assert (await erase(gateway, "?confirm=ada-lovelace", headers=CHATS)).status == 403
    assert (await gateway.get("/v1/me", ADA)).json["memories"] == 1


async def test_an_erasure_leaves_nothing_of_the_user_on_the_disk(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, auth__keys=KEYS)
    data = config.data_folder
    async with running_gateway(config) as gateway:
        await add(gateway, "The kettle is new and whistles.")
        await gateway.chat("My boat is called Nautilus.", headers=ADA)
        await gateway.settled()
        await add(gateway, "Bob likes trains more than planes.", "bob")
        await gateway.get("/v1/me/export", ADA)  # all is stored
        assert await asyncio.to_thread(files_with, data, "new and whistles")
        erased = await erase(gateway, body={"confirm": "ada-lovelace"})
        assert (erased.status, erased.json["purged"]) == (200, True)
        assert erased.json["deleted"] >= 3
        for text in ("new and whistles", "Nautilus", "ada-lovelace"):
            assert await asyncio.to_thread(files_with, data, text) == [], text
        assert (await gateway.get("/v1/me/memories", ADA)).json["total"] == 0
        assert (await erase(gateway, "?confirm=ada-lovelace")).json == {"deleted": 0, "purged": True}
        assert (await gateway.get("/v1/memory/list?user=bob", APP)).json["total"] == 1, "others keep theirs"
    async with running_gateway(config) as gateway:
        assert (await gateway.get("/v1/me/export", ADA)).body == b""
        assert (await gateway.get("/v1/memory/list?user=bob", APP)).json["total"] == 1
        await add(gateway, "A new beginning.")
        assert (await gateway.get("/v1/me", ADA)).json["memories"] == 1


async def test_erasures_at_once_do_not_pile_up(gateway: Running) -> None:
    await add(gateway, "The kettle is new.")
    replies = await asyncio.gather(*(erase(gateway, "?confirm=ada-lovelace") for _ in range(4)))
    assert {reply.status for reply in replies} <= {200, 429}
    assert sum(reply.json["deleted"] for reply in replies if reply.status == 200) == 1
    assert all(reply.headers["retry-after"] == "5" for reply in replies if reply.status == 429)
    assert (await gateway.get("/v1/me", ADA)).json["memories"] == 0


async def test_a_failed_erasure_names_no_file_of_the_server(gateway: Running, tmp_path: Path) -> None:
    await add(gateway, "The kettle is new.")
    (tmp_path / "data" / "notes.broken-1").mkdir()  # a folder where only files are expected: it cannot be unlinked
    reply = await erase(gateway, "?confirm=ada-lovelace")
    assert reply.status == 503
    assert "not all could be forgotten now" in reply.error["message"]
    assert str(tmp_path) not in reply.error["message"]
