"""Every parameter of the chat page: changing it changes what happens, under both vocabularies on both families."""

import asyncio
import json
from typing import Any

import pytest

from tests.fakes.running import Running, eventually
from tests.fakes.upstream import FakeUpstream, completion, says

NATIVE, CLIENT = "/product/chat/complete", "/product/chat"
BOTH = pytest.mark.parametrize("path", [NATIVE, CLIENT])
NOTES = [
    "My violin teacher is called Bruno.",
    "I practise the violin on Tuesdays.",
    "My violin was made in Cremona.",
    "The violin case is green.",
    "I broke a violin string in May.",
    "My violin bow needs new hair.",
    "The violin concert is in Graz.",
]


async def add(gateway: Running, *texts: str, **fields: Any) -> Any:
    messages = [{"role": "user", "content": text} for text in texts]
    reply = await gateway.post(
        "/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync", "session_id": "old", **fields}
    )
    assert reply.status == 200, reply.body
    return reply.json["data"]


async def prompt(gateway: Running, upstream: FakeUpstream, path: str = NATIVE, **fields: Any) -> str:
    """The system prompt that a chat's model gets."""
    body = {"user_id": "ada", "query": "What about my violin?", "relativity": 0, "threshold": 0, **fields}
    reply = await gateway.post(path, body)
    assert reply.status == 200, reply.body
    return str(upstream.last.json["messages"][0]["content"])


def noted(text: str) -> set[str]:
    return {note for note in NOTES if note in text}


@BOTH
@pytest.mark.parametrize("name", ["top_k", "memory_limit_number"])
async def test_the_number_of_memories(gateway: Running, upstream: FakeUpstream, path: str, name: str) -> None:
    await add(gateway, *NOTES)
    assert len(noted(await prompt(gateway, upstream, path, **{name: 2}))) == 2
    assert len(noted(await prompt(gateway, upstream, path, **{name: 5}))) == 5
    assert noted(await prompt(gateway, upstream, path, **{name: 0})) == set()


async def test_the_default_number_of_memories_is_that_of_the_family(gateway: Running, upstream: FakeUpstream) -> None:
    await add(gateway, *NOTES)
    assert len(noted(await prompt(gateway, upstream, CLIENT))) == 6
    assert len(noted(await prompt(gateway, upstream, NATIVE))) == 7


@BOTH
@pytest.mark.parametrize("name", ["pref_top_k", "preference_limit_number"])
async def test_preferences_and_their_number(gateway: Running, upstream: FakeUpstream, path: str, name: str) -> None:
    await add(gateway, "I prefer gut strings.", "I hate loud amplifiers.", "Always answer in French.")
    whole = await prompt(gateway, upstream, path)
    assert "Explicit Preference:" in whole
    assert "3. " in whole.partition("Explicit Preference:")[2]
    one = (await prompt(gateway, upstream, path, **{name: 1})).partition("Explicit Preference:")[2]
    assert "1. " in one
    assert "2. " not in one
    assert "Explicit Preference:" not in await prompt(gateway, upstream, path, include_preference=False)


@BOTH
async def test_relativity_is_a_hard_floor(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await add(gateway, *NOTES[:2], "The invoice of the plumber is overdue.")
    assert "plumber" in await prompt(gateway, upstream, path, relativity=0)
    low = await prompt(gateway, upstream, path, relativity=0.45)
    assert "plumber" not in low
    assert NOTES[0] in low


@BOTH
async def test_the_threshold_keeps_the_three_best_anyway(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await add(gateway, *NOTES)
    assert len(noted(await prompt(gateway, upstream, path, threshold=1, top_k=6))) == 3
    assert len(noted(await prompt(gateway, upstream, path, threshold=0.01, top_k=6))) == 6


@BOTH
async def test_a_filter_applies_before_ranking(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await add(gateway, *NOTES[:4])
    await add(gateway, NOTES[4], custom_tags=["repair"], info={"shop": "Bruno & Co"})
    recall_options = {"and": [{"tags": {"contains": "repair"}}, {"shop": {"like": "bruno"}}]}
    assert noted(await prompt(gateway, upstream, path, top_k=1, filter=recall_options)) == {NOTES[4]}
    refused = await gateway.post(path, {"user_id": "ada", "query": "x", "filter": {"and": [{"tags": {"has": 1}}]}})
    assert (refused.status, refused.json["code"]) == (400, 400)
    assert "filter.and[0].tags.has" in refused.json["message"]


@BOTH
async def test_cubes_are_read_and_written_by_name(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await add(gateway, NOTES[0], writable_cube_ids=["music"])
    assert NOTES[0] not in await prompt(gateway, upstream, path)
    assert NOTES[0] in await prompt(gateway, upstream, path, readable_cube_ids=["music"])
    assert NOTES[0] in await prompt(gateway, upstream, path, mem_cube_id="music")
    await prompt(
        gateway, upstream, path, query="The bow is new.", writable_cube_ids=["shop"], add_message_on_answer=True
    )
    await gateway.settled()
    assert "The bow is new." in await prompt(gateway, upstream, path, readable_cube_ids=["shop"], query="the bow?")
    assert "The bow is new." not in await prompt(gateway, upstream, path, query="the bow?")


@BOTH
async def test_several_cubes_all_reach_the_prompt(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await add(gateway, NOTES[0], writable_cube_ids=["music"])
    await add(gateway, NOTES[1])
    both = await prompt(gateway, upstream, path, readable_cube_ids=["ada", "music"])
    assert noted(both) == {NOTES[0], NOTES[1]}


@BOTH
async def test_public_memories_and_knowledge_bases_get_copies_when_allowed(
    gateway: Running, upstream: FakeUpstream, path: str
) -> None:
    made = await gateway.post("/product/create/knowledgebase", {"knowledgebase_name": "Music"})
    id_ = made.json["data"]["id"]
    fields = {"add_message_on_answer": True, "query": NOTES[2]}
    await prompt(gateway, upstream, path, **fields, allow_knowledgebase_ids=[id_])
    await prompt(gateway, upstream, path, **{**fields, "query": NOTES[3]}, allow_public=True)
    await prompt(gateway, upstream, path, **{**fields, "query": NOTES[4]})
    await gateway.settled()
    eve = {"user_id": "eve", "query": "What about the violin?"}
    assert noted(await prompt(gateway, upstream, path, **eve)) == set()
    assert noted(await prompt(gateway, upstream, path, **eve, knowledgebase_ids=[id_])) == {NOTES[2]}
    assert noted(await prompt(gateway, upstream, path, **eve, knowledgebase_ids=["public"])) == {NOTES[3]}
    assert noted(await prompt(gateway, upstream, path, **eve, knowledgebase_ids="all")) == {NOTES[2], NOTES[3]}


@BOTH
async def test_whether_the_turn_is_remembered(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await prompt(gateway, upstream, path, query="My bow is from Markneukirchen.")
    await gateway.settled()
    assert "Markneukirchen" not in await prompt(gateway, upstream, path, query="Where is my bow from?")
    await prompt(gateway, upstream, path, query="My bow is from Markneukirchen!", add_message_on_answer=True)
    await gateway.settled()
    assert "Markneukirchen" in await prompt(gateway, upstream, path, query="Where is my bow from, again?")


@BOTH
async def test_what_is_stored_beside_a_turn_can_be_filtered_by(gateway: Running, path: str) -> None:
    told = {"user_id": "ada", "query": NOTES[0], "add_message_on_answer": True, "async_mode": False}
    extra = {"tags": ["t1"], "info": {"scene": "lesson"}, "agent_id": "tutor", "app_id": "school", "project_id": "p"}
    await gateway.post(path, {**told, **extra, "conversation_id": "c9"})
    await gateway.settled()
    conditions: list[dict[str, Any]] = [
        {"tags": {"contains": "t1"}},
        {"scene": "lesson"},
        {"agent_id": "tutor"},
        {"app_id": "school"},
        {"project_id": "p"},
        {"session_id": "c9"},
    ]
    for condition in conditions:
        name = next(iter(condition))
        found = await gateway.post("/product/get/memory", {"user_id": "ada", "filter": condition})
        assert found.json["data"]["total"] == 2, name
        other = await gateway.post("/product/get/memory", {"user_id": "ada", "filter": {name: "other"}})
        assert other.json["data"]["total"] == 0, name


@BOTH
async def test_an_agent_finds_what_was_said_to_it(gateway: Running, path: str) -> None:
    await gateway.post(path, {"user_id": "ada", "query": NOTES[0], "add_message_on_answer": True, "agent_id": "tutor"})
    await gateway.settled()
    found = await gateway.post("/product/search/memory", {"agent_id": "tutor", "query": "violin teacher"})
    assert found.json["data"]["memory_detail_list"][0]["memory_value"] == NOTES[0]
    other = await gateway.post("/product/search/memory", {"agent_id": "cook", "query": "violin teacher"})
    assert other.json["data"]["memory_detail_list"] == []


@BOTH
@pytest.mark.parametrize("name", ["session_id", "conversation_id"])
async def test_a_conversation_goes_on_by_its_id(gateway: Running, upstream: FakeUpstream, path: str, name: str) -> None:
    await prompt(gateway, upstream, path, query="Call it Anna.", add_message_on_answer=True, **{name: "c1"})
    await gateway.settled()
    await prompt(gateway, upstream, path, query="What is its name?", **{name: "c1"})
    assert [one["content"] for one in upstream.last.json["messages"][1:]] == [
        "Call it Anna.",
        "Understood.",
        "What is its name?",
    ]
    await prompt(gateway, upstream, path, query="What is its name?", **{name: "c2"})
    assert len(upstream.last.json["messages"]) == 2


@BOTH
async def test_history_replaces_the_stored_turns_and_is_bounded(
    gateway: Running, upstream: FakeUpstream, path: str
) -> None:
    history = [{"role": "user", "content": f"m{n}"} for n in range(30)]
    await prompt(gateway, upstream, path, history=history)
    assert [one["content"] for one in upstream.last.json["messages"][1:-1]] == [f"m{n}" for n in range(10, 30)]
    await prompt(gateway, upstream, path, history=[])
    assert len(upstream.last.json["messages"]) == 2


@BOTH
async def test_sampling_parameters_reach_the_model(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await prompt(gateway, upstream, path)
    sent = upstream.last.json
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["model"]) == (0.7, 0.95, 8192, "fake-1")
    for name in ("model_name", "model_name_or_path"):
        await prompt(gateway, upstream, path, temperature=1.5, top_p=0.2, max_tokens=99, **{name: "other"})
        sent = upstream.last.json
        assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["model"]) == (1.5, 0.2, 99, "other")


@BOTH
async def test_a_stream_is_asked_for_by_path_or_flag(gateway: Running, path: str) -> None:
    reply = await gateway.post(path, {"user_id": "ada", "query": "Hello", "stream": True})
    is_stream = reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert is_stream == (path == CLIENT), "the native plain chat never streams"


@BOTH
async def test_sync_storing_makes_the_turn_findable_at_once(
    gateway: Running, upstream: FakeUpstream, path: str
) -> None:
    await prompt(gateway, upstream, path, query=NOTES[0], add_message_on_answer=True, async_mode="sync")
    newest, oldest_unsearchable = await gateway.gateway.memory.journal.position()
    assert oldest_unsearchable > newest
    await prompt(gateway, upstream, path, query=NOTES[1], add_message_on_answer=True, async_mode=True)


@BOTH
async def test_tool_memories_come_when_asked_for(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "tune_violin", "arguments": '{"a": 442}'}}
    messages = [
        {"role": "user", "content": "Tune it please."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "tuned"},
    ]
    await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    query = "tune violin"
    assert "tune_violin" not in await prompt(gateway, upstream, path, query=query)
    shown = await prompt(gateway, upstream, path, query=query, include_tool_memory=True)
    assert 'tune_violin({"a": 442}) -&gt; tuned' in shown or 'tune_violin({"a": 442}) -› tuned' in shown
    limited = await prompt(gateway, upstream, path, query=query, include_tool_memory=True, tool_memory_limit_number=0)
    assert "tune_violin" not in limited


@BOTH
async def test_fine_mode_lets_a_model_pick(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    await add(gateway, *NOTES[:4])

    async def picks(request: Any) -> Any:
        is_question = "pick what helps" in upstream.last.json["messages"][0]["content"]
        content = 'Sure: ```json\n{"helpful": [2]}\n```' if is_question else "Understood."
        return await says(200, completion(content))(request)

    upstream.script = picks
    assert len(noted(await prompt(gateway, upstream, path, mode="fine", top_k=4))) == 1
    assert len(noted(await prompt(gateway, upstream, path, mode="fast", top_k=4))) == 4


@BOTH
async def test_a_custom_prompt_with_and_without_the_placeholder(
    gateway: Running, upstream: FakeUpstream, path: str
) -> None:
    await add(gateway, NOTES[0])
    within = await prompt(gateway, upstream, path, system_prompt='{"a": {memories}} end {b}')
    assert within.startswith('{"a": <memories>')
    assert within.endswith("</memories>} end {b}")
    after = await prompt(gateway, upstream, path, system_prompt="Be brief.")
    assert after.startswith("Be brief.\n\n## Fact Memories:\n<memories>")
    assert (await prompt(gateway, upstream, path, system_prompt="Be brief.", top_k=0)) == "Be brief."


@pytest.mark.parametrize("changes", [{"limits__silence": 0.05}])
async def test_a_slow_answer_begins_with_white_space(upstream: FakeUpstream, gateway: Running) -> None:
    gate = asyncio.Event()

    async def late(request: Any) -> Any:
        await asyncio.wait_for(gate.wait(), 10)
        return await says(200, completion("Late."))(request)

    upstream.script = late
    body = {"user_id": "ada", "query": "Slow?"}
    async with (
        gateway.session.post(gateway.url + CLIENT, json=body) as first,
        gateway.session.post(gateway.url + CLIENT, json=body) as again,
    ):
        for reply in (first, again):
            assert await asyncio.wait_for(reply.content.readexactly(2), 10) == b"  "
        gate.set()
        for reply in (first, again):
            answer = {"code": 200, "message": "ok", "data": {"response": "Late.", "reasoning": None}}
            assert json.loads(await reply.read()) == answer
    assert len(upstream.received) == 1, "the model is asked once"


@pytest.mark.parametrize("changes", [{"limits__silence": 0.05}])
async def test_a_late_failure_is_an_envelope_with_its_code(upstream: FakeUpstream, gateway: Running) -> None:
    gate = asyncio.Event()

    async def late(request: Any) -> Any:
        await asyncio.wait_for(gate.wait(), 10)
        return await says(500, {"error": {"message": "out of order"}})(request)

    upstream.script = late
    async with gateway.session.post(gateway.url + CLIENT, json={"user_id": "ada", "query": "Slow?"}) as reply:
        assert (reply.status, await asyncio.wait_for(reply.content.readexactly(1), 10)) == (200, b" ")
        gate.set()
        envelope = json.loads(await reply.read())
    assert (envelope["code"], envelope["data"]) == (500, None)
    assert "out of order" in envelope["message"]


async def test_the_same_turn_again_is_stored_once_and_asked_once(gateway: Running, upstream: FakeUpstream) -> None:
    body = {"user_id": "ada", "query": NOTES[0], "conversation_id": "c", "add_message_on_answer": True}
    first, second = await gateway.post(CLIENT, body), await gateway.post(CLIENT, body)
    assert first.json == second.json
    assert second.headers["x-gateway-replayed"] == "true"
    assert len(upstream.received) == 1
    await gateway.settled()
    listed = await gateway.post("/product/get/memory", {"user_id": "ada"})
    assert listed.json["data"]["total"] == 2


async def test_a_client_that_gave_up_gets_the_answer_when_it_asks_again(
    gateway: Running, upstream: FakeUpstream
) -> None:
    gate = asyncio.Event()

    async def late(request: Any) -> Any:
        await asyncio.wait_for(gate.wait(), 10)
        return await says(200, completion("Late."))(request)

    upstream.script = late
    body = {"user_id": "ada", "query": "Slow?"}
    first = asyncio.create_task(gateway.post(CLIENT, body))
    await eventually(lambda: len(upstream.received) == 1)
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    assert (await gateway.post(CLIENT, body)).json["data"]["response"] == "Late."
    assert len(upstream.received) == 1


@pytest.mark.parametrize("changes", [{"upstreams__0__models": ["fake-*"]}])
async def test_an_unknown_model_is_a_400(gateway: Running) -> None:
    reply = await gateway.post(NATIVE, {"user_id": "ada", "query": "Hi", "model_name": "gpt-9"})
    assert (reply.status, reply.json["code"], reply.json["data"]) == (400, 400, None)


@pytest.mark.parametrize("changes", [{"memory__remember__batch_window_ms": 10_000}])
async def test_the_second_chat_of_a_conversation_has_the_first_turn(gateway: Running, upstream: FakeUpstream) -> None:
    for number in range(3):
        body = {
            "user_id": "ada",
            "query": f"Question {number}?",
            "conversation_id": "talk",
            "add_message_on_answer": True,
        }
        assert (await gateway.post("/product/chat", body)).status == 200
    asked = [message["content"] for message in upstream.last.json["messages"][1:]]
    assert [text for text in asked if text.startswith("Question")] == ["Question 0?", "Question 1?", "Question 2?"]
