"""What was learnt when messages are deleted, changed, said again or shared: gone is gone, and what is false ends."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.values import PendingMessage
from tests.fakes.running import Running, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, completion, says
from tests.flow.test_learning import Teacher, fact, learning, learnt, listed, school

__all__ = ["school"]  # the fixture

School = tuple[Running, Teacher]


async def said(gateway: Running, text: str, session: str, user: str = "ada") -> str:
    """The id of a message, once it is stored."""
    await gateway.chat(text, session=session, user=user)
    await gateway.settled()
    return next(str(one["id"]) for one in await listed(gateway, "turn", user) if one["text"] == text)


async def deleted(gateway: Running, *ids: str) -> None:
    assert (await gateway.post("/product/delete_memory", {"memory_ids": list(ids), "user_id": "ada"})).status == 200


async def edited(gateway: Running, id_: str, text: str) -> None:
    assert (await gateway.post("/product/update/memory", {"memory_id": id_, "content": text})).status == 200
    await gateway.extracted()


async def undone(gateway: Running, id_: str) -> int:
    status = (await gateway.post(f"/v1/memory/undo/{id_}", {})).status
    await gateway.extracted()
    return status


async def facts(gateway: Running, user: str = "ada") -> list[str]:
    return sorted(one["text"] for one in await listed(gateway, "fact", user))


def moving(teacher: Teacher) -> None:
    """Three places, each of which replaces the one before."""
    teacher.lessons |= {
        "Porto": fact("The user lives in Porto"),
        "Lisbon": fact("The user lives in Lisbon"),
        "Berlin": fact("The user lives in Berlin"),
    }
    teacher.relations |= {"Lisbon": ("contradicts", "Porto"), "Berlin": ("contradicts", "Lisbon")}


async def test_a_lesson_is_not_learnt_from(school: School) -> None:
    gateway, teacher = school
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bergen"}'}}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    messages = [
        {"role": "user", "content": "Weather in Bergen?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "error: unknown city"},
    ]
    note = {"tool": "get_weather", "text": "get_weather with the city Bergen gave an error", "worked": False}
    teacher.lessons["get_weather"] = {"tools": note}
    body = {"model": "fake-1", "messages": messages, "tools": tools}
    await gateway.post("/v1/chat/completions", body, {"x-memory-user": "ada", "x-memory-session": "one"})
    await eventually(lambda: bool(teacher.asked), 15)
    await gateway.extracted()
    questions = len(teacher.asked)
    await gateway.extracted()  # the lesson itself was stored, and passed over
    assert len(teacher.asked) == questions
    lessons = [one for one in await listed(gateway, "tool") if one["is_learnt"]]
    calls = {one["id"] for one in await listed(gateway, "tool") if not one["is_learnt"]}
    assert [set(one["rests_on"]) & calls for one in lessons] == [calls]
    assert teacher.compared == [], "calls of tools are what was done, not what is known"


async def test_words_of_a_message_that_is_not_named_go_with_it(school: School) -> None:
    gateway, teacher = school
    first = await said(gateway, "My pharmacist asked about the xanax.", "one")
    teacher.lessons["recipe"] = fact("The user's doctor gave a new recipe for xanax")
    await said(gateway, "My doctor gave me a new recipe.", "one")
    item = await learnt(gateway, "xanax")
    assert first not in item["rests_on"]
    teacher.lessons["recipe"] = fact("The user's doctor gave a new recipe")  # it does not know of the other any more
    await deleted(gateway, first)
    await gateway.extracted()
    assert await facts(gateway) == ["The user's doctor gave a new recipe"]


async def test_what_an_assistant_says_again_does_not_take_over_a_fact(school: School, upstream: FakeUpstream) -> None:
    gateway, teacher = school
    teacher.lessons["Bruno"] = fact("The user has a dog called Bruno")
    message = await said(gateway, "I have a dog called Bruno.", "one")
    item = await learnt(gateway, "Bruno")
    upstream.reply = "Yes: the user has a dog called Bruno."
    await said(gateway, "Well.", "one")
    await gateway.extracted()
    own = [one for one in await listed(gateway) if one["source"] == "user"]
    assert [(one["id"], one["rests_on"]) for one in own] == [(item["id"], [message])]


async def test_what_was_deleted_and_is_said_again_is_learnt_again(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    await said(gateway, "I live in Porto.", "one")
    await learnt(gateway, "Porto")
    lisbon = await said(gateway, "I moved to Lisbon.", "one")
    await learnt(gateway, "Lisbon")
    await deleted(gateway, lisbon)
    assert await facts(gateway) == ["The user lives in Porto"]
    await said(gateway, "Oh, I moved to Lisbon, really.", "one")
    await learnt(gateway, "Lisbon")
    assert await facts(gateway) == ["The user lives in Lisbon"]


async def test_a_fact_that_was_said_twice_outlasts_one_of_its_messages(school: School) -> None:
    gateway, teacher = school
    teacher.lessons["oboe"] = fact("The user plays the oboe")
    first = await said(gateway, "I play the oboe.", "one")
    await learnt(gateway, "oboe")
    await said(gateway, "I play the oboe, as I said.", "two")
    await gateway.extracted()
    await deleted(gateway, first)
    item = await learnt(gateway, "oboe")
    assert first not in item["rests_on"]


async def test_deleting_the_middle_one_of_three_revives_nothing(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    ids = []
    for place in ("Porto", "Lisbon", "Berlin"):
        ids.append(await said(gateway, f"I live in {place} now.", place))
        await learnt(gateway, place)
    await deleted(gateway, ids[1])
    assert await facts(gateway) == ["The user lives in Berlin"]
    await deleted(gateway, ids[2])
    assert await facts(gateway) == ["The user lives in Porto"]


@pytest.mark.parametrize("way", ["forget", "delete"])
async def test_what_a_deleted_conversation_had_replaced_holds_again(school: School, way: str) -> None:
    gateway, teacher = school
    moving(teacher)
    await said(gateway, "I live in Porto.", "one")
    await learnt(gateway, "Porto")
    await said(gateway, "I moved to Lisbon.", "two")
    await learnt(gateway, "Lisbon")
    if way == "forget":
        await gateway.post("/v1/memory/forget", {"user": "ada", "session": "two"})
    else:
        reply = await gateway.post("/product/delete_memory", {"user_id": "ada", "filter": {"session_id": "two"}})
        assert reply.status == 200, reply.body
    assert await facts(gateway) == ["The user lives in Porto"]


async def test_what_a_changed_message_had_replaced_holds_again(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    await said(gateway, "I live in Porto.", "one")
    await learnt(gateway, "Porto")
    lisbon = await said(gateway, "I moved to Lisbon.", "two")
    await learnt(gateway, "Lisbon")
    await edited(gateway, lisbon, "I moved the sofa.")
    assert await facts(gateway) == ["The user lives in Porto"]
    await undone(gateway, lisbon)
    assert await facts(gateway) == ["The user lives in Lisbon"]
    body = {"memory_id": lisbon, "status": "archived"}
    assert (await gateway.post("/product/update/memory", body)).status == 200
    assert await facts(gateway) == ["The user lives in Porto"]
    assert (await gateway.post("/product/update/memory", {**body, "status": "activated"})).status == 200
    assert await facts(gateway) == ["The user lives in Lisbon"]


async def test_undoing_edits_brings_back_only_what_that_text_says(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    teacher.relations.clear()
    teacher.lessons["dog"] = fact("The user has a dog")
    message = await said(gateway, "I live in Porto with my dog.", "one")
    await learnt(gateway, "dog")
    await edited(gateway, message, "I live in Lisbon with my dog.")
    await edited(gateway, message, "I live in Berlin.")
    assert await facts(gateway) == ["The user lives in Berlin"]
    assert await undone(gateway, message) == 200
    assert await facts(gateway) == ["The user has a dog", "The user lives in Lisbon"]
    assert await undone(gateway, message) == 200
    assert await facts(gateway) == ["The user has a dog", "The user lives in Porto"]
    assert await undone(gateway, message) == 400
    assert await facts(gateway) == ["The user has a dog", "The user lives in Porto"]


async def test_what_was_believed_before_an_edit_and_before_an_undo(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    locker = await said(gateway, "My locker is number 12.", "one")
    await said(gateway, "I live in Porto.", "two")
    await learnt(gateway, "Porto")
    await said(gateway, "I moved to Lisbon.", "two")
    new = await learnt(gateway, "Lisbon")
    between = time.time()
    await edited(gateway, locker, "My locker is number 99.")
    await undone(gateway, new["id"])
    assert await facts(gateway) == ["The user lives in Porto"]
    believed = {one["text"] for one in await listed(gateway, "turn,fact", as_of=str(between))}
    assert {"My locker is number 12.", "The user lives in Lisbon"} <= believed
    assert not {"My locker is number 99.", "The user lives in Porto"} & believed
    (porto,) = [one for one in await listed(gateway, "turn") if one["text"] == "I live in Porto."]
    at_that = {one["text"] for one in await listed(gateway, "turn", as_of=porto["from"].replace("+", "%2B"))}
    assert "I live in Porto." in at_that, "as of the moment that the list itself shows"


async def test_what_was_taken_out_stays_out(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    await said(gateway, "I live in Porto.", "one")
    old = await learnt(gateway, "Porto")
    lisbon = await said(gateway, "I moved to Lisbon.", "two")
    await learnt(gateway, "Lisbon")
    body = {"memory_id": old["id"], "status": "archived"}
    assert (await gateway.post("/product/update/memory", body)).status == 200
    await deleted(gateway, lisbon)
    assert await facts(gateway) == []


async def test_users_of_one_agent_do_not_replace_each_others_facts(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    for user, place in (("ada", "Porto"), ("bob", "Lisbon")):
        messages = [{"role": "user", "content": f"I live in {place}."}]
        body = {"user_id": user, "agent_id": "coach", "session_id": "s", "messages": messages, "async_mode": "sync"}
        assert (await gateway.post("/product/add", body)).status == 200
    await eventually(lambda: len(teacher.asked) >= 4, 15)
    await gateway.extracted()
    assert all(shown.count('"number"') <= 2 for shown in teacher.asked), "one user at a time"
    found = await gateway.post("/product/get/memory", {"agent_id": "coach", "size": 50})
    texts = {one["memory_value"] for one in found.json["data"]["memory_detail_list"]}
    assert {"The user lives in Porto", "The user lives in Lisbon"} <= texts


async def test_when_comparing_fails_nothing_is_kept_until_it_succeeds(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gateway.extraction.worker._FIRST_PAUSE", 0.1)
    monkeypatch.setattr("gateway.extraction.worker._PAUSE_GROWS", 1)
    teacher = Teacher(upstream)
    moving(teacher)
    failures = [says(429, {"error": {"message": "slow down"}}), says(200, completion("Hm, hm."))]

    async def script(request: web.Request) -> web.StreamResponse:
        if "Below are new notes" in json.loads(await request.read())["messages"][0]["content"] and failures:
            made: web.StreamResponse = await failures.pop()(request)
            return made
        return await teacher.answer(request)

    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await said(gateway, "I live in Porto.", "one")
        await learnt(gateway, "Porto")
        upstream.script = script
        await said(gateway, "I moved to Lisbon.", "two")
        await learnt(gateway, "Lisbon")
        assert failures == []
        assert await facts(gateway) == ["The user lives in Lisbon"]


async def test_a_lesson_that_was_written_is_not_learnt_twice_after_a_crash(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gateway.extraction.worker._FIRST_PAUSE", 0.1)
    teacher = Teacher(upstream)
    teacher.lessons["bees"] = fact("The user keeps bees")
    config = learning(tmp_path, upstream)

    async def crash(*_: Any) -> None:
        raise RuntimeError("the process ends here")

    async with running_gateway(config) as gateway:
        with monkeypatch.context() as broken:
            broken.setattr(SqliteExtractionQueue, "learnt", crash)
            await said(gateway, "I keep bees.", "one")
            await learnt(gateway, "bees")
    teacher.lessons["bees"] = fact("Bees are kept by the user")
    async with running_gateway(config) as gateway:
        await said(gateway, "I keep goats, too.", "one")
        await gateway.extracted()
        assert await facts(gateway) == ["The user keeps bees"]
        assert "goats" in teacher.asked[-1]


async def test_a_clock_that_was_ahead_does_not_keep_learning_from_beginning(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    teacher = Teacher(upstream)
    teacher.lessons["bees"] = fact("The user keeps bees")
    (tmp_path / "data").mkdir()
    agenda = SqliteExtractionQueue(tmp_path / "data" / "learning.sqlite")
    await agenda.open(time.time() + 86_400 * 365)
    await agenda.close()
    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await said(gateway, "I keep bees.", "one")
        await learnt(gateway, "bees")


async def test_many_conversations_of_one_user_keep_no_other_waiting(tmp_path: Path) -> None:
    agenda = SqliteExtractionQueue(tmp_path / "learning.sqlite")
    await agenda.open(0)
    try:
        busy = [PendingMessage(number, "a" * 64, f"s{number}", f"m{number}", 1) for number in range(1, 200)]
        await agenda.note(busy, {0: 200}, now=0, idle=0, window=10)
        await agenda.note([PendingMessage(201, "b" * 64, "s", "m", 1)], {0: 201}, now=1, idle=0, window=10)
        assert [due.scope[0] for due in await agenda.due(2, 4)] == ["a", "b"]
    finally:
        await agenda.close()


async def test_a_copy_in_another_tenant_has_its_own_history(tmp_path: Path, upstream: FakeUpstream) -> None:
    teacher = Teacher(upstream)
    moving(teacher)
    rights = ["chat", "memory", "admin"]
    names = [f"key-{tenant}-0000000000" for tenant in "ab"]
    keys = [{"key": name, "tenant": tenant, "rights": rights} for name, tenant in zip(names, "ab", strict=True)]
    config = learning(tmp_path, upstream, auth__keys=keys)
    first, second = ({"x-gateway-key": name} for name in names)
    async with running_gateway(config) as gateway:
        for number, text in enumerate(("I live in Porto.", "I moved to Lisbon.")):
            messages = [{"role": "user", "content": text}]
            body = {"user_id": "ada", "session_id": "s", "messages": messages, "async_mode": "sync"}
            assert (await gateway.post("/product/add", body, first)).status == 200
            await eventually(lambda number=number: len(teacher.asked) > number, 15)  # type: ignore[misc]  # bound now
            await gateway.extracted()
        lines = (await gateway.get("/v1/memory/export?user=ada", first)).body
        taken = await gateway.post("/v1/memory/import", None, second, raw=lines)
        assert taken.status == 200, taken.body
        there = (await gateway.get("/v1/memory/list?user=ada&kind=fact", second)).json["data"]
        assert [one["text"] for one in there] == ["The user lives in Lisbon"]
        line = (await gateway.get(f"/v1/memory/history/{there[0]['id']}", second)).json["data"]
        assert [one["text"] for one in line] == ["The user lives in Porto", "The user lives in Lisbon"]
        ids = {"memory_ids": there[0]["rests_on"], "user_id": "ada"}
        assert (await gateway.post("/product/delete_memory", ids, second)).status == 200
        left = (await gateway.get("/v1/memory/list?user=ada&kind=fact", second)).json["data"]
        assert [one["text"] for one in left] == ["The user lives in Porto"]


def instruments(teacher: Teacher) -> None:
    """What is played is told one by one, and put together with the harp."""
    teacher.lessons |= {name: fact(f"The user plays the {name}") for name in ("harp", "flute", "drum")}

    def decisions(material: str) -> Any:
        found = []
        for line in map(json.loads, material.split("\n")):
            old = [one["number"] for one in line["older"] if one["note"].endswith("plays the harp")]
            text = f"{line['note']} and the harp"
            found.append({"new": line["new"], "relation": "more_precise", "old": old, "text": text})
        return {"decisions": found}

    teacher.decisions = decisions  # type: ignore[method-assign]  # another way to compare


async def test_two_notes_that_were_merged_with_one_both_go_with_its_message(school: School) -> None:
    gateway, teacher = school
    instruments(teacher)
    harp = await said(gateway, "I play the harp.", "one")
    await learnt(gateway, "harp")
    messages = [{"role": "user", "content": f"I play the {name}."} for name in ("flute", "drum")]
    body = {"user_id": "ada", "session_id": "two", "messages": messages, "async_mode": "sync"}
    assert (await gateway.post("/product/add", body)).status == 200
    await learnt(gateway, "drum and the harp")
    assert await facts(gateway) == ["The user plays the drum and the harp", "The user plays the flute and the harp"]
    await deleted(gateway, harp)
    await gateway.extracted()
    assert await facts(gateway) == ["The user plays the drum", "The user plays the flute"]


@pytest.mark.parametrize("change", [{"content": "I sell stamps."}, {"status": "archived"}])
async def test_a_merged_fact_ends_with_each_of_its_messages(school: School, change: dict[str, str]) -> None:
    gateway, teacher = school
    instruments(teacher)
    harp = await said(gateway, "I play the harp.", "one")
    await learnt(gateway, "harp")
    await said(gateway, "I play the flute.", "two")
    await learnt(gateway, "flute and the harp")
    assert (await gateway.post("/product/update/memory", {"memory_id": harp, **change})).status == 200
    await gateway.extracted()
    assert await facts(gateway) == ["The user plays the flute"]


async def test_a_fact_whose_message_was_changed_does_not_hold_again(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    porto = await said(gateway, "I live in Porto.", "one")
    await learnt(gateway, "Porto")
    lisbon = await said(gateway, "I moved to Lisbon.", "two")
    await learnt(gateway, "Lisbon")
    await edited(gateway, porto, "I sell stamps.")
    await deleted(gateway, lisbon)
    assert await facts(gateway) == []


async def test_what_was_taken_out_is_not_learnt_again_with_another_message(school: School) -> None:
    gateway, teacher = school
    teacher.lessons |= {
        "a cottage": fact("The user lives in a cottage"),
        "Bruno": fact("The user has a dog Bruno from the cottage"),
    }
    await said(gateway, "I live in a cottage.", "one")
    bruno = await said(gateway, "I have a dog Bruno.", "one")
    await learnt(gateway, "Bruno")
    item = await learnt(gateway, "lives in a cottage")
    body = {"memory_id": item["id"], "status": "archived"}
    assert (await gateway.post("/product/update/memory", body)).status == 200
    await deleted(gateway, bruno)
    await gateway.extracted()
    assert await facts(gateway) == []


async def test_what_was_replaced_is_not_learnt_again_with_another_message(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    teacher.lessons["Bruno"] = fact("The user has a dog Bruno seen by the harbour")
    await said(gateway, "I live in Porto, by the harbour.", "one")
    bruno = await said(gateway, "I have a dog Bruno.", "one")
    await learnt(gateway, "Bruno")
    await said(gateway, "I moved to Lisbon.", "two")
    await learnt(gateway, "Lisbon")
    teacher.relations.clear()  # it does not see any more that they contradict each other
    await deleted(gateway, bruno)
    await gateway.extracted()
    assert await facts(gateway) == ["The user lives in Lisbon"]


async def test_a_fact_outlasts_a_message_that_had_one_of_its_words_by_chance(school: School) -> None:
    gateway, teacher = school
    teacher.lessons["Bruno"] = fact("The user adopted a beagle called Bruno")
    await said(gateway, "I have got a beagle called Bruno.", "one")
    cats = await said(gateway, "My sister adopted three cats.", "one")
    await learnt(gateway, "Bruno")
    await deleted(gateway, cats)
    await gateway.extracted()
    assert await facts(gateway) == ["The user adopted a beagle called Bruno"]


async def test_what_waits_is_learnt_after_a_restart_whatever_else_was_written(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    teacher = Teacher(upstream)
    teacher.lessons |= {"canary": fact("The user keeps a canary"), "harp": fact("The user plays the harp")}
    async with running_gateway(learning(tmp_path, upstream, memory__extraction__idle=600)) as gateway:
        await said(gateway, "I keep a canary.", "one")
        messages = [{"role": "user", "content": "On Sundays I play the harp."}]
        body = {"user_id": "ada", "session_id": "one", "messages": messages, "async_mode": "sync", "mode": "fine"}
        assert len((await gateway.post("/product/add", body)).json["data"]) == 2
    async with running_gateway(learning(tmp_path, upstream)) as gateway:
        await said(gateway, "Well.", "one")
        await learnt(gateway, "canary")


async def test_a_message_that_was_changed_while_it_did_not_hold_is_learnt_from_when_it_does(school: School) -> None:
    gateway, teacher = school
    moving(teacher)
    message = await said(gateway, "I live in Porto.", "one")
    await learnt(gateway, "Porto")
    for change in ({"status": "archived"}, {"content": "I live in Lisbon."}, {"status": "activated"}):
        body = {"memory_id": message, **change}
        assert (await gateway.post("/product/update/memory", body)).status == 200
    await learnt(gateway, "Lisbon")
    assert await facts(gateway) == ["The user lives in Lisbon"]
