"""A memory that holds too much is condensed: nothing is deleted, and what matters comes back."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, completion, says

DAY = 86_400
TOLD = "My passport number ends with 4471 and it expires in June."
THINGS = "kayak piano lawnmower telescope espresso accordion greenhouse motorbike tapestry aquarium".split()
FILLER = [f"The {thing} was repaired in {place}, badly." for thing in THINGS for place in ("Graz", "Linz", "Wels")]


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


async def filled(gateway: Running) -> None:
    """A year-old conversation with one thing worth knowing, and many of last week."""
    old, new = time.time() - 365 * DAY, time.time() - 7 * DAY
    for session, at, texts in (
        ("old", old, [TOLD, *FILLER]),
        ("new", new, [f"Today I planted row {n} of the vineyard near the river." for n in range(90)]),
    ):
        messages = [{"role": "user", "content": text, "chat_time": iso(at + n)} for n, text in enumerate(texts)]
        body = {"user_id": "ada", "session_id": session, "messages": messages, "async_mode": "sync"}
        assert (await gateway.post("/product/add", body)).status == 200


async def listed(gateway: Running, **asked: Any) -> list[Any]:
    more = "".join(f"&{name}={value}" for name, value in asked.items())
    found: list[Any] = (await gateway.get(f"/v1/memory/list?user=ada&limit=1000{more}")).json["data"]
    return found


async def test_without_a_model_the_most_telling_messages_stay(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__retention__condense_over=100)
    async with running_gateway(config) as gateway:
        await filled(gateway)
        before = await listed(gateway, kind="turn")
        gone = await gateway.gateway.memory.condenser.sweep(time.time())
        left = await listed(gateway, kind="turn")
        assert len(before) - len(left) == gone > 15
        assert TOLD in [one["text"] for one in left]
        assert sum(one["session_id"] == "new" for one in left) == 90, "what is young stays whole"
        archived = await listed(gateway, kind="turn", archived="true")
        assert {one["text"] for one in archived} | {one["text"] for one in left} == {one["text"] for one in before}
        assert await gateway.gateway.memory.condenser.sweep(time.time()) == 0


async def test_a_model_sums_up_and_its_words_are_checked(tmp_path: Path, upstream: FakeUpstream) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        if "one old conversation" in body["messages"][0]["content"]:
            text = "The user's passport number ends with 4471 and expires in June. They also own 3 yachts."
            return await says(200, completion(json.dumps({"title": "Passport", "summary": text})))(request)
        return await says(200, completion("{}"))(request)

    upstream.script = script
    config = configuration(
        tmp_path, upstream.url, memory__retention__condense_over=100, memory__extraction__model="fake-1"
    )
    async with running_gateway(config) as gateway:
        await filled(gateway)
        assert await gateway.gateway.memory.condenser.sweep(time.time()) == 31
        (summary,) = await listed(gateway, kind="fact")
        assert summary["text"] == "The user's passport number ends with 4471 and expires in June."
        assert len(summary["rests_on"]) == 31
        archived = await listed(gateway, kind="turn", archived="true")
        assert {one["replaced_by"] for one in archived} == {summary["id"]}
        await gateway.chat("When does my passport expire?", session="now")
        prompt = upstream.last.json["messages"][-1]["content"]
        assert "- concluded: The user's passport number ends with 4471" in prompt


async def test_a_deleted_message_takes_the_summary_along_and_the_others_hold_again(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    text = "The user's passport number ends with 4471 and expires in June."
    upstream.script = says(200, completion(json.dumps({"title": "Passport", "summary": text})))
    config = configuration(
        tmp_path, upstream.url, memory__retention__condense_over=100, memory__extraction__model="fake-1"
    )
    async with running_gateway(config) as gateway:
        await filled(gateway)
        await gateway.gateway.memory.condenser.sweep(time.time())
        archived = await listed(gateway, kind="turn", archived="true")
        (passport,) = [one for one in archived if one["text"] == TOLD]
        await gateway.post("/product/delete_memory", {"memory_ids": [passport["id"]], "user_id": "ada"})
        assert await listed(gateway, kind="fact") == []
        assert len(await listed(gateway, kind="turn")) == 120
        assert await listed(gateway, archived="true") == []


async def test_what_was_archived_comes_back_when_a_question_finds_nothing_else(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    config = configuration(tmp_path, upstream.url, memory__retention__condense_over=100)
    async with running_gateway(config) as gateway:
        await filled(gateway)
        memory = gateway.gateway.memory
        await memory.condenser.sweep(time.time())
        archived = await listed(gateway, kind="turn", archived="true")
        wanted = archived[0]["text"]
        question = wanted.replace("The", "Where was the").replace(", badly.", "?")
        search = f"/v1/memory/search?user=ada&kind=turn&archived=true&query={wanted}"
        assert (await gateway.get(search)).json["data"][0]["text"] == wanted
        scopes = (await memory.registry.scopes_of_owner("default", "ada"))[:1]
        assert await memory.condenser.bring_back(scopes, question) >= 1
        await gateway.settled()
        assert wanted in [one["text"] for one in await listed(gateway, kind="turn")]
        assert await memory.condenser.bring_back(scopes, question) == 0, "once a minute at most"


async def test_a_chat_that_finds_nothing_has_the_archive_looked_into(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(
        tmp_path,
        upstream.url,
        memory__retention__condense_over=100,
        memory__recall__selectivity=1.0,
        memory__enabled=True,
    )
    async with running_gateway(config) as gateway:
        await filled(gateway)
        await gateway.gateway.memory.condenser.sweep(time.time())
        held = " ".join(one["text"] for one in await listed(gateway, kind="turn"))
        archived = [one["text"] for one in await listed(gateway, kind="turn", archived="true")]
        wanted = next(text for text in archived if text.split()[1] not in held)
        question = f"{wanted.split()[1]}?"
        await gateway.chat(question, session="one", headers={"x-memory-mode": "read"})

        async def is_back() -> bool:
            return wanted in [one["text"] for one in await listed(gateway, kind="turn")]

        await eventually(is_back, 10)


async def test_what_the_user_had_forgotten_does_not_come_back(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__retention__condense_over=100)
    async with running_gateway(config) as gateway:
        await filled(gateway)
        memory = gateway.gateway.memory
        await memory.condenser.sweep(time.time())
        body = {"user_id": "ada", "feedback_content": "Please forget my passport number", "async_mode": "sync"}
        (changed,) = (await gateway.post("/product/feedback", body)).json["data"]
        assert [one["memory"] for one in changed["record"]["delete"]] == [TOLD]
        scopes = (await memory.registry.scopes_of_owner("default", "ada"))[:1]
        assert await memory.condenser.bring_back(scopes, "What is my passport number, when does it expire?") == 0
        assert TOLD not in [one["text"] for one in await listed(gateway, kind="turn")]


async def test_a_model_that_is_out_is_waited_for(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.script = says(503, {"error": {"message": "busy"}})
    config = configuration(
        tmp_path, upstream.url, memory__retention__condense_over=100, memory__extraction__model="fake-1"
    )
    async with running_gateway(config) as gateway:
        await filled(gateway)
        condenser = gateway.gateway.memory.condenser
        assert await condenser.sweep(time.time()) == 0
        text = "The user's passport number ends with 4471 and expires in June."
        upstream.script = says(200, completion(json.dumps({"title": "Passport", "summary": text})))
        assert await condenser.sweep(time.time()) == 31
        assert [one["text"] for one in await listed(gateway, kind="fact")] == [text]


async def test_what_holds_again_is_condensed_again(tmp_path: Path, upstream: FakeUpstream) -> None:
    text = "The user's passport number ends with 4471 and expires in June."
    upstream.script = says(200, completion(json.dumps({"title": "Passport", "summary": text})))
    config = configuration(
        tmp_path, upstream.url, memory__retention__condense_over=100, memory__extraction__model="fake-1"
    )
    async with running_gateway(config) as gateway:
        await filled(gateway)
        condenser = gateway.gateway.memory.condenser
        await condenser.sweep(time.time())
        archived = await listed(gateway, kind="turn", archived="true")
        kayak = next(one["id"] for one in archived if "kayak" in one["text"])
        await gateway.post("/product/delete_memory", {"memory_ids": [kayak], "user_id": "ada"})
        assert len(await listed(gateway, kind="turn")) == 120
        assert await condenser.sweep(time.time()) == 30
