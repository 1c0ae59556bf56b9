"""The users of a tenant over the memory API, with the numbers of their memories."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream
from tests.flow.test_memory_api import call


async def users(gateway: Running, query: str = "") -> dict[str, Any]:
    reply = await gateway.get(f"/v1/memory/users{query}")
    assert reply.status == 200, reply.body
    answer: dict[str, Any] = reply.json
    return answer


async def add(gateway: Running, user: str, text: str = "The kettle is new.", **fields: Any) -> dict[str, Any]:
    reply = await gateway.post("/v1/memory", {"user": user, "text": text, **fields})
    assert reply.status == 201, reply.body
    memory: dict[str, Any] = reply.json["data"][0]
    return memory


async def test_users_come_by_name_in_pages_and_by_part_of_their_ids(gateway: Running) -> None:
    assert await users(gateway) == {"object": "list", "data": [], "has_more": False, "next": None}
    names = ["ada", "Adam", "bob", "50%", "5000", "a_b", "axb", "吴"]
    for name in names:
        await add(gateway, name)
    assert [user["id"] for user in (await users(gateway))["data"]] == sorted(names)
    first = await users(gateway, "?limit=5")
    assert (first["has_more"], first["next"]) == (True, first["data"][-1]["id"])
    rest = await users(gateway, f"?limit=5&after={first['next']}")
    assert [user["id"] for user in first["data"] + rest["data"]] == sorted(names)
    assert (rest["has_more"], rest["next"]) == (False, None)
    for part, expected in {
        "AD": ["Adam", "ada"],
        "%25": ["50%"],
        "_": ["a_b"],
        "吴": ["吴"],
        "zz": [],
        "!": [],
    }.items():
        assert [user["id"] for user in (await users(gateway, f"?query={part}"))["data"]] == expected


async def test_the_number_of_memories_is_right_before_and_after_they_are_stored(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        memory = await add(gateway, "ada")
        await add(gateway, "bob", "I am allergic to nuts.")
        counts = {user["id"]: user["memories"] for user in (await users(gateway))["data"]}
        assert counts == {"ada": 1, "bob": 2}, "though they wait for the table"
        changed = await call(gateway, "PATCH", f"/v1/memory/{memory['id']}", {"text": "The kettle is broken."})
        await gateway.get("/v1/memory/export")  # all is stored
        (ada, _) = (await users(gateway))["data"]
        assert (ada["memories"], ada["updated_at"]) == (1, changed.json["updated_at"])
    async with running_gateway(config) as gateway:
        assert {user["id"]: user["memories"] for user in (await users(gateway))["data"]} == {"ada": 1, "bob": 2}
        await call(gateway, "DELETE", f"/v1/memory/{memory['id']}")
        assert {user["id"]: user["memories"] for user in (await users(gateway))["data"]} == {"ada": 0, "bob": 2}


async def test_a_user_has_all_its_cubes(gateway: Running) -> None:
    body = {"user_id": "ada", "mem_cube_id": "work", "messages": "The kettle is new.", "async_mode": "sync"}
    assert (await gateway.post("/product/add", body)).status == 200
    await add(gateway, "ada")
    (ada,) = (await users(gateway))["data"]
    assert ada["cubes"] == [{"id": "ada", "kind": "user"}, {"id": "work", "kind": "cube"}]
    assert ada["memories"] == 2
    listed = (await gateway.get("/v1/memory/list?user=ada&cube=work")).json["data"]
    assert [(memory["user"], memory["cube"]) for memory in listed] == [("ada", "work")]


@pytest.mark.parametrize(
    ("query", "param"), [("?limit=0", "limit"), ("?limit=x", "limit"), (f"?query={'x' * 300}", "query")]
)
async def test_bad_parameters_are_named(gateway: Running, query: str, param: str) -> None:
    reply = await gateway.get(f"/v1/memory/users{query}")
    assert (reply.status, reply.error["param"]) == (400, param)


async def test_while_the_memory_loads_the_numbers_are_not_known(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__recall={"start_wait": 0})
    async with running_gateway(config) as gateway:
        await add(gateway, "ada")
    async with running_gateway(config, wait=False) as gateway:
        answer = (await users(gateway))["data"]
        assert [user["id"] for user in answer] == ["ada"]
        assert answer[0]["memories"] in (None, 1)

        async def is_counted() -> bool:
            return bool((await users(gateway))["data"][0]["memories"] == 1)

        await eventually(is_counted, 30)


@pytest.mark.parametrize("changes", [{"memory__enabled": False}])
async def test_without_memory_the_routes_say_so(gateway: Running) -> None:
    for path in ("/v1/memory/users", "/v1/memory/list?user=ada", "/v1/memory/user-export?user=ada"):
        reply = await gateway.get(path)
        assert (reply.status, reply.error["code"]) == (503, "memory_unavailable")
    reply = await gateway.post("/v1/memory", {"user": "ada", "text": "x"})
    assert reply.status == 503
    assert (await gateway.get("/v1/me")).json["memories"] is None
