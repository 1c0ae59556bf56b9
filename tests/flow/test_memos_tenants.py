"""Tenants, users and rights: on every MemOS route a foreign memory, file, task or cube is as unknown as none."""

import asyncio
import json
from typing import Any

import pytest

from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.routes import memos_operations
from tests.fakes.running import Running
from tests.fakes.upstream import FakeUpstream

KEYS = {
    "acme": "key-of-acme-1",
    "rival": "key-of-rival-1",
    "pinned": "key-of-eve-at-acme",
    "admin": "key-of-acme-admin",
    "chat": "key-for-chat-only",
}
SECRET = "The safe's number is 4711-0815."


@pytest.fixture
def changes() -> dict[str, Any]:
    return {
        "auth__keys": [
            {"key": KEYS["acme"], "tenant": "acme"},
            {"key": KEYS["rival"], "tenant": "rival"},
            {"key": KEYS["pinned"], "tenant": "acme", "user": "eve"},
            {"key": KEYS["admin"], "tenant": "acme", "rights": ["chat", "memory", "admin"]},
            {"key": KEYS["chat"], "tenant": "acme", "rights": ["chat"]},
        ]
    }


def as_(name: str) -> dict[str, str]:
    return {"authorization": f"Token {KEYS[name]}"}


async def told(gateway: Running) -> str:
    """A memory of ada at acme; its id."""
    body = {"user_id": "ada", "session_id": "c1", "messages": SECRET, "async_mode": "sync", "custom_tags": ["vault"]}
    reply = await gateway.post("/product/add", body, as_("acme"))
    assert reply.status == 200, reply.body
    return str(reply.json["data"][0]["memory_id"])


def requests_for(memory_id: str, user: str) -> list[tuple[str, dict[str, Any] | list[str] | None]]:
    """Everything that could show, change or delete a memory of ada, as another would try it."""
    query = {"query": "What is the safe's number?", "relativity": 0, "user_id": user}
    tags = {"tags": {"contains": "vault"}}
    return [
        ("/product/chat", {**query, "conversation_id": "c1"}),
        ("/product/chat/complete", {**query, "readable_cube_ids": ["ada"], "session_id": "c1"}),
        ("/product/chat/stream", {**query, "mem_cube_id": "ada", "filter": tags}),
        ("/product/chat/stream/playground", {**query, "readable_cube_ids": ["ada"]}),
        ("/product/search/memory", {**query, "filter": tags}),
        ("/product/search", {**query, "readable_cube_ids": ["ada"]}),
        ("/product/get/memory", {"user_id": user, "filter": {"user_id": "ada"}}),
        (f"/product/get/memory/{memory_id}", None),
        ("/product/get/message", {"user_id": user, "conversation_id": "c1"}),
        ("/product/get_memory", {"mem_cube_id": "ada", "user_id": user}),
        (f"/product/get_memory/{memory_id}", None),
        ("/product/get_memory_by_ids", [memory_id]),
        ("/product/get_memory_dashboard", {"mem_cube_id": "ada", "user_id": user}),
        ("/product/get_all", {"user_id": user, "memory_type": "text_mem", "mem_cube_ids": ["ada"]}),
        ("/product/suggestions", {"user_id": user, "mem_cube_id": "ada", "language": "en"}),
        ("/product/get_user_names_by_memory_ids", {"memory_ids": [memory_id]}),
        ("/product/update/memory", {"memory_id": memory_id, "content": "overwritten"}),
        ("/product/delete/memory", {"memory_ids": [memory_id]}),
        ("/product/delete/memory", {"filter": tags}),
        ("/product/delete/memory", {"user_id": user}),
        ("/product/delete_memory", {"memory_ids": [memory_id], "writable_cube_ids": ["ada"]}),
        ("/product/delete_memory", {"user_id": user, "writable_cube_ids": ["ada"], "session_id": "c1"}),
        ("/product/delete_memory_by_record_id", {"mem_cube_id": "ada", "record_id": memory_id, "hard_delete": True}),
        ("/product/feedback", {"user_id": user, "feedback_content": "No", "retrieved_memory_ids": [memory_id],
                               "history": None, "async_mode": "sync"}),
    ]  # fmt: skip


@pytest.mark.parametrize(("who", "user"), [("rival", "ada"), ("rival", "eve"), ("pinned", "eve"), ("acme", "eve")])
async def test_no_route_shows_or_harms_a_foreign_memory(
    gateway: Running, upstream: FakeUpstream, who: str, user: str
) -> None:
    memory_id = await told(gateway)
    for path, body in requests_for(memory_id, user):
        if who == "acme" and ("memory_ids" in json.dumps(body) or memory_id in path or "memory_id" in json.dumps(body)):
            continue  # this key may name any user of its tenant, so an id is its own to use
        if who == "acme" and (isinstance(body, list) or (body and "record_id" in body)):
            continue
        if who == "acme" and path == "/product/delete/memory" and body and "filter" in body:
            continue
        reply = await (gateway.get(path, as_(who)) if body is None else gateway.post(path, body, as_(who)))
        assert b"4711-0815" not in reply.body, path
        for request in upstream.received:
            assert b"4711-0815" not in request.body, path
    after = await gateway.post("/product/search", {"user_id": "ada", "query": "safe's number"}, as_("acme"))
    (group,) = after.json["data"]["text_mem"]
    assert [item["memory"] for item in group["memories"]] == [SECRET]


async def test_a_foreign_id_is_answered_as_an_unknown_one(gateway: Running) -> None:
    memory_id = await told(gateway)
    for who in ("rival", "pinned"):
        for path in ("/product/get/memory/", "/product/get_memory/"):
            foreign = await gateway.get(path + memory_id, as_(who))
            unknown = await gateway.get(path + "f" * 32, as_(who))
            assert foreign.status == unknown.status
            assert foreign.body.replace(memory_id.encode(), b"") == unknown.body.replace(b"f" * 32, b"")
        body = {"memory_ids": [memory_id, "f" * 32]}
        names = await gateway.post("/product/get_user_names_by_memory_ids", body, as_(who))
        assert set(names.json["data"].values()) == {None}


async def test_knowledge_bases_files_tasks_and_cubes_stay_within_the_tenant(gateway: Running) -> None:
    made = await gateway.post("/product/create/knowledgebase", {"knowledgebase_name": "K"}, as_("acme"))
    id_ = made.json["data"]["id"]
    files = [{"name": "a.txt", "content": "U2VjcmV0"}]
    added = await gateway.post("/product/add/knowledgebase-file", {"knowledgebase_id": id_, "file": files}, as_("acme"))
    file_id = added.json["data"][0]["id"]
    task = await gateway.post("/product/add/message", {"user_id": "ada", "messages": SECRET}, as_("acme"))
    task_id = task.json["data"]["task_id"]
    tries: list[tuple[str, dict[str, Any]]] = [
        ("/product/get/knowledgebase-file", {"knowledgebase_id": id_}),
        ("/product/add/knowledgebase-file", {"knowledgebase_id": id_, "file": files}),
        ("/product/delete/knowledgebase-file", {"file_ids": [file_id]}),
        ("/product/delete/knowledgebase", {"knowledgebase_id": id_}),
        ("/product/search/memory", {"user_id": "ada", "query": "x", "knowledgebase_ids": [id_]}),
        ("/product/get/status", {"task_id": task_id}),
    ]
    for path, body in tries:
        assert (await gateway.post(path, body, as_("rival"))).status == 404, path
    assert (await gateway.post("/product/get/status", {"task_id": task_id}, as_("pinned"))).status == 404
    exists = await gateway.post("/product/exist_mem_cube_id", {"mem_cube_id": "ada"}, as_("rival"))
    assert exists.json["data"] == {"ada": False}
    mine = await gateway.post("/product/exist_mem_cube_id", {"mem_cube_id": "ada"}, as_("acme"))
    assert mine.json["data"] == {"ada": True}
    listed = await gateway.post("/product/get/knowledgebase", {}, as_("rival"))
    assert listed.json["data"] == []


async def test_a_pinned_key_speaks_for_its_user_only(gateway: Running) -> None:
    refused: list[tuple[str, dict[str, Any]]] = [
        ("/product/chat", {"user_id": "ada", "query": "x"}),
        ("/product/search/memory", {"user_id": "ada", "query": "x"}),
        ("/product/search/memory", {"agent_id": "bot", "query": "x"}),
        ("/product/add/message", {"user_id": ["eve", "ada"], "messages": "x"}),
        ("/product/delete/memory", {"user_id": "ada"}),
        ("/product/delete/memory", {"agent_id": "bot"}),
        ("/product/create_cube", {"cube_name": "c", "owner_id": "ada"}),
        ("/product/create/knowledgebase", {"knowledgebase_name": "x"}),
        ("/product/edit/profile", {"profile_template_id": "t", "user_id": "ada", "metadata": {"a": 1}}),
        ("/product/add", {"user_id": "eve", "messages": "For everybody.", "allow_public": True}),
        ("/product/add/message", {"user_id": "eve", "messages": "For everybody.", "allow_public": True}),
        ("/product/feedback", {"user_id": "eve", "feedback_content": "x", "history": None, "allow_public": True}),
        ("/product/scheduler/wait?user_name=ada", {}),
    ]
    for path, body in refused:
        reply = await gateway.post(path, body, as_("pinned"))
        assert (reply.status, reply.json["code"], reply.json["data"]) == (403, 403, None), path
    assert (await gateway.post("/product/chat", {"user_id": "eve", "query": "x"}, as_("pinned"))).status == 200


async def test_rights_are_asked_for_on_every_route(gateway: Running) -> None:
    for operation in memos_operations(ChatHandlers(1)):
        path = operation.paths[0].replace("{memory_id}", "x")
        if operation.method == "GET":
            reply = await gateway.get(path, as_("chat"))
        else:
            reply = await gateway.post(path, {}, as_("chat"))
        assert (reply.status, reply.json["code"]) == (403, 403), path
        keyless = await (gateway.get(path) if operation.method == "GET" else gateway.post(path, {}))
        assert (keyless.status, keyless.json["code"], keyless.json["data"]) == (401, 401, None), path
    assert (await gateway.post("/product/configure", {"top_p": 0.5}, as_("acme"))).status == 403
    assert (await gateway.get("/product/configure", as_("acme"))).status == 403


async def test_configured_defaults_hold_for_their_tenant_and_after_a_restart(
    gateway: Running, upstream: FakeUpstream
) -> None:
    changed = await gateway.post("/product/configure", {"temperature": 0.1, "model": "small"}, as_("admin"))
    assert (changed.status, changed.json["message"]) == (200, "Configuration set successfully")
    await gateway.post("/product/chat", {"user_id": "ada", "query": "x"}, as_("acme"))
    assert (upstream.last.json["temperature"], upstream.last.json["model"]) == (0.1, "small")
    await gateway.post("/product/chat", {"user_id": "ada", "query": "x"}, as_("rival"))
    assert (upstream.last.json["temperature"], upstream.last.json["model"]) == (0.7, "fake-1")
    bad: list[Any] = [{"temperature": 9}, {"api_key": "sk"}, {}, [], {"top_k": "many"}]
    for wrong in bad:
        refused = await gateway.post("/product/configure", wrong, as_("admin"))
        assert (refused.status, refused.json["code"]) == (400, 400), wrong
    shown = await gateway.get("/product/configure", as_("admin"))
    assert shown.json["data"]["temperature"] == 0.1
    assert not any("key" in name for name in shown.json["data"])


async def test_two_changes_at_once_both_count(gateway: Running) -> None:
    named = {"profile_template_id": "t", "user_id": "ada"}
    bound = {"bind_list": [{**named, "metadata": {"tea": True}}]}
    assert (await gateway.post("/product/bind/profile_template", bound, as_("acme"))).status == 200
    edits = [
        gateway.post("/product/edit/profile", {**named, "metadata": {f"field{number}": number}}, as_("acme"))
        for number in range(8)
    ]
    defaults: list[dict[str, Any]] = [{"temperature": 0.1}, {"top_p": 0.5}, {"model": "small"}]
    changes = [gateway.post("/product/configure", change, as_("admin")) for change in defaults]
    assert {reply.status for reply in await asyncio.gather(*edits, *changes)} == {200}
    last = await gateway.post("/product/edit/profile", {**named, "metadata": {"last": 1}}, as_("acme"))
    assert last.json["data"]["metadata"].keys() == {"tea", "last", *(f"field{number}" for number in range(8))}
    shown = (await gateway.get("/product/configure", as_("admin"))).json["data"]
    assert (shown["temperature"], shown["top_p"], shown["model"]) == (0.1, 0.5, "small")


async def test_edits_of_a_profile_change_the_named_fields_only(gateway: Running) -> None:
    named = {"profile_template_id": "t", "user_id": "ada"}
    profile = {"basic": {"job": "nurse", "home": {"city": "Graz", "zip": "8010"}}, "a.b": 1, "tea": True}
    bound = {"bind_list": [{**named, "metadata": profile}]}
    assert (await gateway.post("/product/bind/profile_template", bound, as_("acme"))).status == 200
    edited = await gateway.post(
        "/product/edit/profile", {**named, "metadata": {"basic": {"home": {"city": "Linz"}}}}, as_("acme")
    )
    assert edited.json["data"]["metadata"]["basic"] == {"job": "nurse", "home": {"city": "Linz", "zip": "8010"}}
    removal = {**named, "remove_fields": ["basic.home.zip", "a.b", "basic.nothing", "tea.cup"]}
    removed = (await gateway.post("/product/edit/profile", removal, as_("acme"))).json["data"]
    assert removed["metadata"] == {"basic": {"job": "nurse", "home": {"city": "Linz"}}, "tea": True}
    assert removed["removed"] == ["basic.home.zip", "a.b"]
