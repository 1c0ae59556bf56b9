"""The memory API under `/v1/memory`: add, get, list, change and delete memories of a user, over real sockets."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import Reply, Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

UNKNOWN = "f" * 32


async def call(gateway: Running, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Reply:
    """The answer to a request of any method."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} if data is not None else {}
    async with gateway.session.request(method, gateway.url + path, data=data, headers=headers) as response:
        return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())


async def add(gateway: Running, text: str, **fields: Any) -> list[dict[str, Any]]:
    """Add a memory of ada. Returns what was stored."""
    reply = await gateway.post("/v1/memory", {"user": "ada", "text": text, **fields})
    assert reply.status == 201, reply.body
    memories: list[dict[str, Any]] = reply.json["data"]
    return memories


async def listed(gateway: Running, query: str = "") -> list[dict[str, Any]]:
    reply = await gateway.get(f"/v1/memory/list?user=ada{query}")
    assert reply.status == 200, reply.body
    memories: list[dict[str, Any]] = reply.json["data"]
    return memories


async def test_an_added_memory_is_found_by_every_route_and_after_a_restart(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        (memory,) = await add(
            gateway, "The boiler was serviced.", title="Boiler", session="house", tags=["home"], at="2026-02-03"
        )
        assert memory["user"] == memory["cube"] == "ada"
        assert (memory["kind"], memory["title"], memory["session_id"]) == ("turn", "Boiler", "house")
        assert memory["at"] == memory["valid_from"] == memory["from"] == "2026-02-03T00:00:00+00:00"
        assert memory["valid_to"] is memory["until"] is None
        assert (memory["tags"], memory["metadata"], memory["version"]) == (["home"], {}, 1)
    async with running_gateway(config) as gateway:
        assert await listed(gateway) == [memory]
        assert await listed(gateway, "&session=house&cube=ada") == [memory]
        assert await listed(gateway, "&session=office") == await listed(gateway, "&cube=other") == []
        for id_ in (memory["id"], memory["id"][:8], memory["id"][:8].upper()):
            reply = await gateway.get(f"/v1/memory/{id_}")
            assert reply.json == {**memory, "versions": 1, "message": None}
        found = await gateway.get("/v1/memory/search?user=ada&query=boiler+service")
        assert [{**match, "relativity": 1} for match in found.json["data"]] == [{**memory, "relativity": 1}]
        timeline = (await gateway.get("/v1/memory/timeline?user=ada")).json
        assert (timeline["data"], timeline["first"], timeline["last"]) == ([memory], memory["at"], memory["at"])
        exported = await gateway.get("/v1/memory/user-export?user=ada")
        assert exported.body == (await gateway.get("/v1/memory/export?user=ada")).body
        assert json.loads(exported.body)["id"] == memory["id"]


async def test_an_added_text_is_read_for_preferences_and_recalled_in_chats(
    gateway: Running, upstream: FakeUpstream
) -> None:
    message, preference = await add(gateway, "I am allergic to peanuts. The cat is called Miso.")
    assert (preference["kind"], preference["is_standing"], preference["topic"]) == ("preference", True, "health")
    assert preference["rests_on"] == [message["id"]]
    reply = await gateway.get(f"/v1/memory/{preference['id']}")
    assert reply.json["message"] == {"id": message["id"], "text": message["text"]}
    assert await listed(gateway, "&standing=true") == [preference]
    await gateway.chat("What is the cat called?", session="later")
    assert "Miso" in upstream.last.body.decode()


async def test_a_replaced_preference_is_not_part_of_the_profile(gateway: Running) -> None:
    await add(gateway, "Please call me Al.", at=1_700_000_000)
    await add(gateway, "Please call me Bert.", at=1_700_000_100)
    assert [memory["text"] for memory in await listed(gateway, "&standing=true")] == ["Please call me Bert."]
    by_text = {memory["text"]: memory for memory in await listed(gateway, "&kind=preference")}
    assert {text: memory["is_standing"] for text, memory in by_text.items()} == {
        "Please call me Al.": False,
        "Please call me Bert.": True,
    }


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "text"),
        ({"text": ""}, 400, "text"),
        ({"text": " \n"}, 400, "text"),
        ({"text": 7}, 400, "text"),
        ({"text": "x" * 70_000}, 413, "text"),
        ({"text": "x", "kind": "document"}, 400, "kind"),
        ({"text": "x", "kind": "mood"}, 400, "kind"),
        ({"text": "x", "at": "yesterday"}, 400, "at"),
        ({"text": "x", "at": "0001-01-01"}, 400, "at"),
        ({"text": "x", "at": 1e300}, 400, "at"),
        ({"text": "x", "user": "a\u200bb"}, 400, "user"),
        ({"text": "x", "session": "a\nb"}, 400, "session"),
        ({"text": "x", "tags": ["y"] * 101}, 400, "tags"),
        ({"text": "x", "tags": [""]}, 400, "tags.0"),
        ({"text": "x", "metadata": {"a": "b" * 20_000}}, 400, "metadata"),
        ({"text": "x", "surprise": 1}, 400, "surprise"),
        ([], 400, None),
        ("x", 400, None),
    ],
)
async def test_what_cannot_be_stored_is_refused_with_its_field(
    gateway: Running, body: Any, status: int, param: str | None
) -> None:
    if isinstance(body, dict):
        body = {"user": "ada"} | body
    reply = await gateway.post("/v1/memory", body)
    assert (reply.status, reply.error["param"]) == (status, param), reply.error
    assert await listed(gateway) == []


async def test_a_page_begins_where_the_one_before_ended(gateway: Running) -> None:
    for number in range(7):
        await add(gateway, f"Note number {number}.", at=1_700_000_000 + number // 3)
    for path in ("list", "timeline"):
        whole = (await gateway.get(f"/v1/memory/{path}?user=ada")).json
        assert (whole["total"], whole["has_more"], whole["next"]) == (7, False, None)
        pages: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = (await gateway.get(f"/v1/memory/{path}?user=ada&limit=2&after={cursor}")).json
            pages += page["data"]
            assert page["total"] == 7
            if not page["has_more"]:
                break
            cursor = page["next"]
        assert pages == whole["data"]


async def test_memories_that_come_and_go_between_pages_hide_no_other(gateway: Running) -> None:
    for number in range(6):
        await add(gateway, f"Note number {number}.", at=1_700_000_000 + number)
    first = (await gateway.get("/v1/memory/list?user=ada&limit=2")).json
    last = first["data"][-1]
    assert (await call(gateway, "DELETE", f"/v1/memory/{last['id']}")).status == 200
    await add(gateway, "A newer note.", at=1_700_000_100)
    second = (await gateway.get(f"/v1/memory/list?user=ada&limit=9&after={first['next']}")).json
    assert [memory["text"] for memory in second["data"]] == [f"Note number {number}." for number in (3, 2, 1, 0)]


@pytest.mark.parametrize("cursor", ["x", "A" * 500, "WzFd", "bnVsbA", "%00", "WyJhIiwiYiIsImMiXQ"])
async def test_a_made_up_cursor_is_refused(gateway: Running, cursor: str) -> None:
    for path in ("list", "timeline"):
        reply = await gateway.get(f"/v1/memory/{path}?user=ada&after={cursor}")
        assert (reply.status, reply.error["param"]) == (400, "after")


async def test_a_change_keeps_the_earlier_text_and_can_be_undone(gateway: Running) -> None:
    (memory,) = await add(gateway, "The car is red.")
    path = f"/v1/memory/{memory['id']}"
    changed = (await call(gateway, "PATCH", path, {"text": "The car is blue.", "title": "Car", "version": 1})).json
    assert (changed["text"], changed["title"], changed["version"]) == ("The car is blue.", "Car", 2)
    assert (await gateway.get(path)).json == {**changed, "versions": 2, "message": None}
    history = (await gateway.get(f"/v1/memory/history/{memory['id']}")).json["data"]
    assert [(version["text"], version["status"]) for version in history] == [
        ("The car is red.", "archived"),
        ("The car is blue.", "activated"),
    ]
    assert history[0]["edit_of"] == memory["id"]
    timeline = (await gateway.get("/v1/memory/timeline?user=ada")).json["data"]
    assert [version["text"] for version in timeline] == ["The car is red.", "The car is blue."]
    before = (await gateway.get(f"/v1/memory/timeline?user=ada&as_of={memory['valid_from'].replace('+', '%2B')}")).json
    assert [version["text"] for version in before["data"]] == ["The car is red."]
    assert (await gateway.post(f"/v1/memory/undo/{memory['id']}", {})).status == 200
    assert (await gateway.get(path)).json["text"] == "The car is red."


async def test_an_archived_memory_is_listed_apart_and_can_be_restored(gateway: Running) -> None:
    (memory,) = await add(gateway, "The gym is on Mondays.")
    path = f"/v1/memory/{memory['id']}"
    archived = (await call(gateway, "PATCH", path, {"status": "archived"})).json
    assert (archived["status"], archived["valid_to"] is not None) == ("archived", True)
    assert await listed(gateway) == []
    assert await listed(gateway, "&archived=true") == [archived]
    restored = (await call(gateway, "PATCH", path, {"status": "activated"})).json
    assert (restored["status"], restored["valid_to"]) == ("activated", None)
    assert restored["earlier"] == [{"valid_from": memory["valid_from"], "valid_to": archived["valid_to"]}]


async def test_a_change_of_an_outdated_version_is_refused(gateway: Running) -> None:
    (memory,) = await add(gateway, "The car is red.")
    path = f"/v1/memory/{memory['id']}"
    assert (await call(gateway, "PATCH", path, {"text": "The car is blue.", "version": 1})).status == 200
    for change in ({"text": "The car is green."}, {"status": "archived"}, {"title": "x"}):
        reply = await call(gateway, "PATCH", path, {**change, "version": 1})
        assert (reply.status, reply.error["code"], reply.error["param"]) == (409, "version_conflict", "version")
    assert (await gateway.get(path)).json["text"] == "The car is blue."
    assert (await call(gateway, "PATCH", path, {"text": "The car is green.", "version": 2})).status == 200


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, None),
        ({"version": 1}, 400, None),
        ({"text": ""}, 400, "text"),
        ({"text": "  "}, 400, "text"),
        ({"text": "x" * 70_000}, 413, "text"),
        ({"status": "deleted"}, 400, "status"),
        ({"text": "x", "version": 0}, 400, "version"),
        ({"kind": "fact"}, 400, "kind"),
    ],
)
async def test_a_change_that_cannot_be_made_is_refused_with_its_field(
    gateway: Running, body: Any, status: int, param: str | None
) -> None:
    (memory,) = await add(gateway, "The car is red.")
    reply = await call(gateway, "PATCH", f"/v1/memory/{memory['id']}", body)
    assert (reply.status, reply.error["param"]) == (status, param), reply.error
    assert await listed(gateway) == [memory]


async def test_a_prefix_of_two_ids_is_refused_and_a_deleted_id_is_unknown(gateway: Running) -> None:
    (memory,) = await add(gateway, "The car is red.")
    path = f"/v1/memory/{memory['id']}"
    deleted = await call(gateway, "DELETE", path)
    assert (deleted.json["count"], deleted.json["data"]) == (1, [memory])
    unknown = await gateway.get(f"/v1/memory/{UNKNOWN}")
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"text": "x"})):
        reply = await call(gateway, method, path, body)
        assert (reply.status, reply.body) == (404, unknown.body)
    for path in ("undo", "history"):
        reply = await call(gateway, "POST" if path == "undo" else "GET", f"/v1/memory/{path}/{memory['id']}")
        assert (reply.status, reply.body) == (404, unknown.body), "a deletion cannot be undone"


@pytest.mark.parametrize("path", ["nonsense/of/a/path", "explain", "list/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_an_unknown_path_is_not_passed_to_an_upstream(
    gateway: Running, upstream: FakeUpstream, path: str, method: str
) -> None:
    is_like_an_id = path == "explain" and method != "GET"  # the path of a memory, which has no such method
    assert (await call(gateway, method, f"/v1/memory/{path}", {})).status == (405 if is_like_an_id else 404)
    assert (await call(gateway, method, f"/v1/me/{path}", {})).status == 404
    assert not upstream.received


@pytest.mark.parametrize("changes", [{"plugins": [{"use": "redact"}]}])
async def test_what_is_added_or_changed_goes_through_the_plugins(gateway: Running) -> None:
    secret = "sk-proj-" + "a1B2" * 12
    (memory,) = await add(gateway, f"My key is {secret} for the API.")
    assert secret not in memory["text"]
    changed = await call(gateway, "PATCH", f"/v1/memory/{memory['id']}", {"text": f"Now it is {secret}, really."})
    assert changed.status == 200
    assert secret not in changed.json["text"]
    assert secret not in str(await listed(gateway))
