"""What was learnt, as MemOS' clients, the command line and whoever forgets see it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream
from tests.flow.test_keeping import gateway_command
from tests.flow.test_learning import Teacher, fact, learning, learnt, listed
from tests.flow.test_memos_models import add, found, thinking

CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather in Linz?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Linz"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "error: unknown argument city, use place"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "2", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Linz"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "2", "content": "rain, 7 degrees"},
]


async def test_calls_of_tools_are_learnt_from_and_fill_the_tool_and_skill_lists(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    teacher = Teacher(upstream)
    teacher.lessons |= {
        "unknown argument": {
            "tools": {"tool": "weather", "text": "weather: the argument city is unknown, use place", "worked": False}
        },
        "rain, 7": {
            "skills": {
                "name": "Weather of a place",
                "text": "How to get the weather in Linz",
                "steps": ["weather with place Linz", "rain and degrees are in the result"],
            }
        },
    }
    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await gateway.chat(
            "", messages=CALLS, session="one", tools=[{"type": "function", "function": {"name": "weather"}}]
        )
        await gateway.extracted()
        asked = {
            "user_id": "ada",
            "query": "weather tool arguments",
            "relativity": 0,
            "include_tool_memory": True,
            "include_skill": True,
            "tool_memory_limit_number": 9,
        }
        data = (await gateway.post("/product/search/memory", asked)).json["data"]
        values = [one["tool_value"] for one in data["tool_memory_detail_list"]]
        assert 'weather({"city":"Linz"}) -> error: unknown argument city, use place' in values
        (extraction_result,) = [one for one in data["tool_memory_detail_list"] if one["experience"]]
        assert extraction_result["tool_used_status"] == [
            {
                "used_tool": "weather",
                "error_type": "failed",
                "success_rate": 0.0,
                "tool_experience": "weather: the argument city is unknown, use place",
            }
        ]
        (skill,) = data["skill_detail_list"]
        assert skill["skill_value"]["name"] == "Weather of a place"
        assert skill["skill_value"]["procedure"].startswith("1. weather with place Linz\n2. ")
        native = (await gateway.post("/product/search", {**asked, "search_tool_memory": True})).json["data"]
        assert native["tool_mem"][0]["memories"]
        assert native["skill_mem"][0]["memories"]


async def test_without_learning_no_call_of_a_tool_is_kept(gateway: Running) -> None:
    await gateway.chat("", messages=CALLS, session="one", tools=[{"type": "function", "function": {"name": "weather"}}])
    await gateway.settled()
    assert await listed(gateway, "tool") == []


async def test_memos_shows_preferences_and_what_a_memory_was_before(tmp_path: Path, upstream: FakeUpstream) -> None:
    teacher = Teacher(upstream)
    teacher.lessons |= {
        "live in Porto": fact("The user lives in Porto"),
        "moved to Lisbon": fact("The user moved to Lisbon"),
        "vegetarian": {
            "preferences": {"text": "The user looks for vegetarian places", "kind": "implicit", "reason": "asked twice"}
        },
    }
    teacher.relations["Lisbon"] = ("contradicts", "Porto")
    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await gateway.chat("I live in Porto.", session="one")
        old = await learnt(gateway, "Porto")
        await gateway.chat("I moved to Lisbon.", session="two")
        new = await learnt(gateway, "Lisbon")
        native = (await gateway.get(f"/product/get_memory/{new['id']}")).json["data"]["metadata"]
        (before,) = native["history"]
        assert (before["archived_memory_id"], before["memory"]) == (old["id"], "The user lives in Porto")
        gone = (await gateway.get(f"/product/get_memory/{old['id']}")).json["data"]["metadata"]
        assert (gone["status"], gone["evolve_to"], gone["version"]) == ("archived", [new["id"]], 2)
        client = (await gateway.get(f"/product/get/memory/{new['id']}")).json["data"]
        assert client["history"][0]["memory"] == "The user lives in Porto"
        for place in ("near the station", "at the harbour"):
            await gateway.chat(f"Any vegetarian place {place}?", session="three")
        await learnt(gateway, "vegetarian")
        shown = await gateway.post("/product/search/memory", {"user_id": "ada", "query": "food", "relativity": 0})
        (liked,) = shown.json["data"]["preference_detail_list"]
        assert (liked["preference_type"], liked["reasoning"]) == ("implicit_preference", "asked twice")


async def test_a_text_that_is_changed_by_hand_keeps_its_earlier_one(gateway: Running) -> None:
    (item,) = await add(gateway, "My sister lives in Graz.")
    changed = {"memory_id": item["memory_id"], "content": "My sister lives in Linz."}
    assert (await gateway.post("/product/update/memory", changed)).json["data"]["version"] == 2
    line = (await gateway.get(f"/v1/memory/history/{item['memory_id']}")).json["data"]
    assert [(one["text"], one["status"]) for one in line] == [
        ("My sister lives in Graz.", "archived"),
        ("My sister lives in Linz.", "activated"),
    ]
    await gateway.post(f"/v1/memory/undo/{item['memory_id']}", {})
    assert await found(gateway, "sister") == ["My sister lives in Graz."]
    again = await gateway.post(f"/v1/memory/undo/{item['memory_id']}", {})
    assert (again.status, again.error["code"]) == (400, "nothing_to_undo")
    await gateway.post("/product/delete_memory", {"memory_ids": [item["memory_id"]], "user_id": "ada"})
    assert await listed(gateway, "turn", archived="true") == [], "its earlier texts go with it"


async def test_feedback_can_forget_and_that_can_be_undone(gateway: Running, upstream: FakeUpstream) -> None:
    (item,) = await add(gateway, "My sister lives in Graz.")
    judged = {"updates": [], "additions": [], "forget": [1, 99], "answer": ""}
    upstream.script = thinking(upstream, {"comments on": judged})
    told = {"user_id": "ada", "feedback_content": "Forget my sister.", "history": None, "async_mode": "sync"}
    (record,) = (await gateway.post("/product/feedback", told)).json["data"]
    assert [one["id"] for one in record["record"]["delete"]] == [item["memory_id"]]
    assert await found(gateway, "sister") == []
    await gateway.post(f"/v1/memory/undo/{item['memory_id']}", {})
    assert await found(gateway, "sister") == ["My sister lives in Graz."]


async def test_feedback_corrects_through_the_client_and_is_undone(gateway: Running, upstream: FakeUpstream) -> None:
    (item,) = await add(gateway, "My sister lives in Graz.")
    judged = {
        "updates": [{"number": 1, "text": "My sister lives in Linz."}],
        "additions": [],
        "forget": [],
        "answer": "",
    }
    upstream.script = thinking(upstream, {"comments on": judged})
    told = {
        "user_id": "ada",
        "conversation_id": "s1",
        "feedback_content": "She lives in Linz now.",
        "async_mode": False,
    }
    assert (await gateway.post("/product/add/feedback", told)).json["data"]["status"] == "completed"
    assert await found(gateway, "sister lives") == ["My sister lives in Linz."]
    line = (await gateway.get(f"/v1/memory/history/{item['memory_id']}")).json["data"]
    assert [one["text"] for one in line] == ["My sister lives in Graz.", "My sister lives in Linz."]
    await gateway.post(f"/v1/memory/undo/{line[1]['id']}", {})
    assert await found(gateway, "sister lives") == ["My sister lives in Graz."]


@pytest.mark.parametrize("words", ["Please forget that my sister lives in Graz.", "忘记 my sister lives in Graz"])
async def test_asking_to_forget_needs_no_model(gateway_without_model: Running, words: str) -> None:
    gateway = gateway_without_model
    await add(gateway, "My sister lives in Graz.", "I keep bees.")
    told = {"user_id": "ada", "feedback_content": words, "history": None, "async_mode": "sync"}
    (record,) = (await gateway.post("/product/feedback", told)).json["data"]
    assert [one["memory"] for one in record["record"]["delete"]] == ["My sister lives in Graz."]
    assert "My sister lives in Graz." not in await found(gateway, "sister")
    assert "I keep bees." in await found(gateway, "bees")


@pytest.fixture
async def gateway_without_model(tmp_path: Path) -> Any:
    config = configuration(tmp_path, "http://127.0.0.1:9/v1", upstreams=[{"name": "none", "kind": "offline"}])
    async with running_gateway(config) as gateway:
        yield gateway


async def test_a_purge_leaves_nothing_of_what_was_learnt(tmp_path: Path, upstream: FakeUpstream) -> None:
    teacher = Teacher(upstream)
    teacher.lessons["Xylocopa"] = fact("The user keeps bees called Xylocopa")
    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await gateway.chat("I keep bees called Xylocopa violacea.", session="a-private-title")
        await learnt(gateway, "Xylocopa")
        await gateway.chat("More about Xylocopa.", session="a-private-title")
        gone = await gateway.post("/v1/memory/forget", {"user": "ada", "purge": True})
        assert gone.json["purged"]
        await gateway.extracted()
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Xylocopa" not in content, path
            assert b"a-private-title" not in content, path


async def test_the_command_line_lists_shows_and_undoes(tmp_path: Path, upstream: FakeUpstream) -> None:
    teacher = Teacher(upstream)
    teacher.lessons |= {"in Porto": fact("The user lives in Porto"), "to Lisbon": fact("The user moved to Lisbon")}
    teacher.relations["Lisbon"] = ("contradicts", "Porto")
    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await gateway.chat("I live in Porto.", session="one")
        await learnt(gateway, "Porto")
        await gateway.chat("I moved to Lisbon.", session="two")
        new = await learnt(gateway, "Lisbon")
        await gateway.settled()
    shown = await gateway_command(tmp_path, "list", "--user", "ada", "--kind", "fact", "--json")
    assert [one["text"] for one in json.loads(shown.stdout)["data"]] == ["The user moved to Lisbon"], shown.stderr
    history = await gateway_command(tmp_path, "history", new["id"][:8])
    assert history.returncode == 0
    assert "Porto" in history.stdout
    undone = await gateway_command(tmp_path, "undo", new["id"], "--json")
    assert {one["status"] for one in json.loads(undone.stdout)["data"]} == {"activated", "archived"}
    searched = await gateway_command(tmp_path, "search", "where does the user live", "--user", "ada", "--kind", "fact")
    assert "Porto" in searched.stdout
    assert "Lisbon" not in searched.stdout
    wrong = await gateway_command(tmp_path, "history", "0" * 32)
    assert wrong.returncode == 1
    assert "no memory of this id" in wrong.stderr


async def test_a_conversation_of_another_tenant_is_learnt_apart(tmp_path: Path, upstream: FakeUpstream) -> None:
    teacher = Teacher(upstream)
    teacher.lessons["bees"] = fact("The user keeps bees")
    keys = [
        {"key": f"{tenant}-key-0123456789", "tenant": tenant, "rights": ["chat", "memory"]} for tenant in ("t", "u")
    ]
    async with running_gateway(learning(tmp_path, upstream, auth__keys=keys)) as gateway:
        await gateway.chat("I keep bees.", session="one", headers={"x-gateway-key": "t-key-0123456789"})

        async def is_known(tenant: str) -> bool:
            reply = await gateway.get(
                "/v1/memory/list?user=ada&kind=fact", {"x-gateway-key": f"{tenant}-key-0123456789"}
            )
            return bool(reply.json["data"])

        await eventually(lambda: is_known("t"), 15)
        assert not await is_known("u")
