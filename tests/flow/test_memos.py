"""The first MemOS routes: the real MemOSClient's chat, and the native chat, add and search."""

import asyncio
import json
from typing import Any

import pytest

from tests.fakes.clients import call_memos
from tests.fakes.running import Running, eventually
from tests.fakes.upstream import DONE, FakeUpstream, chunk, completion, cuts_after, hangs, says, streams

COMPLETE = "/product/chat/complete"


async def client(gateway: Running, *calls: tuple[str, dict[str, Any]]) -> Any:
    return await call_memos(f"{gateway.url}/product", *calls)


async def test_the_real_client_chats_and_is_remembered(gateway: Running, upstream: FakeUpstream) -> None:
    told = {
        "user_id": "memos_user",
        "conversation_id": "c-1",
        "query": "I am allergic to peanuts.",
        "add_message_on_answer": True,
    }
    (first,) = await client(gateway, ("chat", told))
    assert (first["code"], first["message"], first["data"]["response"]) == (200, "ok", "Understood.")
    await gateway.settled()
    asked = {"user_id": "memos_user", "conversation_id": "c-2", "query": "What am I allergic to?", "stream": True}
    plain, streamed = await client(
        gateway, ("chat", {**asked, "stream": False, "add_message_on_answer": False}), ("chat", asked)
    )
    assert plain["data"]["response"] == "Understood."
    system = upstream.last.json["messages"][0]
    assert system["role"] == "system"
    assert "I am allergic to peanuts." in system["content"]
    events = [json.loads(event) for event in streamed]
    assert "".join(event["data"] for event in events if event["type"] == "text") == "Understood."
    assert events[-1] == {"type": "end"}


async def add(gateway: Running, text: str, **fields: Any) -> Any:
    body = {"user_id": "ada", "messages": [{"role": "user", "content": text}], "async_mode": "sync", **fields}
    return await gateway.post("/product/add", body)


async def test_what_is_added_is_found_when_the_call_returns(gateway: Running) -> None:
    added = await add(gateway, "我最近在学R语言", chat_time="2025-01-02 03:04:05")
    assert added.json["message"] == "Memory added successfully"
    (item,) = added.json["data"]
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "R语言 可视化"})
    assert found.json["message"] == "Search completed successfully"
    (group,) = found.json["data"]["text_mem"]
    assert (group["cube_id"], group["total_nodes"]) == ("ada", 1)
    assert group["memories"][0]["id"] == item["memory_id"]
    assert group["memories"][0]["metadata"]["relativity"] >= 0.45


async def test_chat_time_becomes_the_time_of_the_memory(gateway: Running) -> None:
    messages = [{"role": "user", "content": "I moved to Graz", "chat_time": "2024-05-06 07:08:09"}]
    await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "moved to Graz"})
    assert found.json["data"]["text_mem"][0]["memories"][0]["metadata"]["created_at"] == "2024-05-06T07:08:09+00:00"


async def test_storing_is_asked_for_explicitly(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "I play the oboe in an orchestra."})
    await gateway.settled()
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "What do I play in the orchestra?"})
    assert "oboe" not in upstream.last.body.decode()


@pytest.mark.parametrize("name", ["conversation_id", "session_id"])
async def test_a_conversation_keeps_its_thread(gateway: Running, upstream: FakeUpstream, name: str) -> None:
    say = {"user_id": "ada", name: "thread", "query": "Pick a number: I say 41.", "add_message_on_answer": True}
    await gateway.post(COMPLETE, say)
    await gateway.settled()
    await gateway.post(COMPLETE, {**say, "query": "And one more?"})
    roles = [(message["role"], message["content"]) for message in upstream.last.json["messages"][1:]]
    assert roles == [("user", "Pick a number: I say 41."), ("assistant", "Understood."), ("user", "And one more?")]


async def test_history_that_is_given_is_used_instead(gateway: Running, upstream: FakeUpstream) -> None:
    history = [{"role": "user", "content": f"m{i}"} for i in range(30)]
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "now", "history": history})
    assert [message["content"] for message in upstream.last.json["messages"][1:]] == [
        *(f"m{i}" for i in range(10, 30)),
        "now",
    ]


async def test_sampling_parameters_reach_the_model(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "hi"})
    sent = upstream.last.json
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["model"]) == (0.7, 0.95, 8192, "fake-1")
    asked = {"user_id": "ada", "query": "hi", "temperature": 0.1, "top_p": 0.2, "max_tokens": 9, "model_name": "m-2"}
    await gateway.post(COMPLETE, asked)
    sent = upstream.last.json
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["model"]) == (0.1, 0.2, 9, "m-2")


async def test_the_placeholder_is_replaced_and_braces_stay(gateway: Running, upstream: FakeUpstream) -> None:
    await add(gateway, "My favourite colour is teal.")
    prompt = 'Answer as {"json": 1}. Known: {memories}. End.'
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "My favourite colour?", "system_prompt": prompt})
    system = upstream.last.json["messages"][0]["content"]
    assert system.startswith('Answer as {"json": 1}. Known: <memories>')
    assert "teal" in system
    assert system.endswith(". End.")
    await gateway.post(COMPLETE, {"user_id": "nobody", "query": "My favourite colour?", "system_prompt": prompt})
    assert upstream.last.json["messages"][0]["content"] == 'Answer as {"json": 1}. Known: . End.'


async def test_a_prompt_without_placeholder_gets_the_memories_after_it(
    gateway: Running, upstream: FakeUpstream
) -> None:
    await add(gateway, "My favourite colour is teal.")
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "My favourite colour?", "system_prompt": "Be kind."})
    assert upstream.last.json["messages"][0]["content"].startswith("Be kind.\n\n## Fact Memories:\n")


async def test_the_default_prompt_speaks_the_language_of_the_question(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "你好吗？"})
    assert "来源" in upstream.last.json["messages"][0]["content"]
    await gateway.post(COMPLETE, {"user_id": "ada", "query": "How are you?"})
    assert "Source" in upstream.last.json["messages"][0]["content"]


async def test_relativity_is_a_hard_floor(gateway: Running) -> None:
    await add(gateway, "The invoice number is 77123.")
    search = {"user_id": "ada", "query": "Which bird sings at night in the forest?"}
    assert (await gateway.post("/product/search", search)).json["data"]["text_mem"] == []
    everything = await gateway.post("/product/search", {**search, "relativity": 0})
    assert len(everything.json["data"]["text_mem"][0]["memories"]) == 1


async def test_thinking_is_told_apart(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(200, completion("<think>hm, tea</think>\n\nYou like tea."))
    reply = await gateway.post(COMPLETE, {"user_id": "ada", "query": "What do I like?"})
    assert reply.json["data"] == {"response": "You like tea.", "reasoning": "hm, tea"}
    pieces = [chunk({"content": piece}) for piece in ("<thi", "nk>hm</th", "ink>", "Tea", " \u4f60\u2028.")]
    upstream.script = streams([*pieces, chunk({}, "stop"), DONE])
    reply = await gateway.post("/product/chat/stream", {"user_id": "ada", "query": "What do I like?"})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.body.isascii()
    events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    assert events == [
        {"type": "reasoning", "data": "hm"},
        {"type": "text", "data": "Tea"},
        {"type": "text", "data": " \u4f60\u2028."},
        {"type": "end"},
    ]


async def test_a_cut_stream_is_an_error_event_before_the_end(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = cuts_after([chunk({"content": "half"})])
    reply = await gateway.post("/product/chat/stream", {"user_id": "ada", "query": "hi"})
    events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events] == ["text", "error", "end"]
    assert events[1]["code"] == 502


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        (COMPLETE, {"query": "hi"}, "user_id"),
        (COMPLETE, {"user_id": "ada"}, "query"),
        (COMPLETE, {"user_id": "ada", "query": ""}, "query"),
        (COMPLETE, {"user_id": "ada", "query": "hi", "temperature": 9}, "temperature"),
        (COMPLETE, {"user_id": "ada", "query": "hi", "history": [{"role": "king"}]}, "history"),
        (COMPLETE, [1], "object"),
        ("/product/add", {"user_id": "ada"}, "messages"),
        ("/product/add", {"user_id": "ada", "messages": []}, "messages"),
        ("/product/add", {"user_id": "ada", "messages": [{"role": "user", "content": " "}]}, "messages"),
        (
            "/product/add",
            {"user_id": "ada", "messages": [{"role": "user", "content": "x", "chat_time": "soon"}]},
            "chat_time",
        ),
        ("/product/search", {"user_id": "ada", "query": "x", "top_k": 0}, "top_k"),
        ("/product/search", {"user_id": "a\u0000b", "query": "x"}, "user_id"),
    ],
)
async def test_bad_bodies_get_an_envelope_that_names_the_field(
    gateway: Running, path: str, body: Any, names: str
) -> None:
    reply = await gateway.post(path, body)
    assert reply.status == 400
    assert reply.json["code"] == 400
    assert reply.json["data"] is None
    assert names in reply.json["message"]


async def test_null_counts_as_absent(gateway: Running) -> None:
    body = {"user_id": "ada", "query": "hi", "top_k": None, "history": None, "relativity": None, "temperature": None}
    assert (await gateway.post(COMPLETE, body)).status == 200


async def test_errors_of_the_upstream_keep_their_status_in_the_envelope(
    gateway: Running, upstream: FakeUpstream
) -> None:
    upstream.script = says(429, {"error": {"message": "slow down", "type": "t", "code": None}})
    for path in (COMPLETE, "/product/chat/stream"):
        reply = await gateway.post(path, {"user_id": "ada", "query": "hi"})
        assert (reply.status, reply.json) == (429, {"code": 429, "message": "slow down", "data": None})


async def test_other_methods_get_an_envelope(gateway: Running) -> None:
    reply = await gateway.get("/product/search")
    assert (reply.status, reply.json["code"]) == (405, 405)


async def test_a_trailing_slash_in_the_base_url_does_no_harm(gateway: Running) -> None:
    assert (await gateway.post("/product//chat", {"user_id": "ada", "query": "hi"})).status == 200


async def test_a_gone_client_cancels_the_upstream(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = hangs()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await gateway.post(COMPLETE, {"user_id": "ada", "query": "hi"})
    await eventually(lambda: upstream.closed == 1, timeout=1)


async def test_the_native_name_of_a_conversation_wins(gateway: Running, upstream: FakeUpstream) -> None:
    body = {"user_id": "ada", "messages": "The lift is broken.", "session_id": "native", "conversation_id": "client"}
    assert (await gateway.post("/product/add", {**body, "async_mode": "sync"})).status == 200
    listed = (await gateway.get("/v1/memory/list?user=ada")).json["data"]
    assert {one["session_id"] for one in listed} == {"native"}


async def test_search_is_in_the_order_of_the_relevance_that_it_shows(gateway: Running) -> None:
    texts = [f"My {thing} number {n} is in the {place}." for n, (thing, place) in enumerate(THINGS)]
    messages = [{"role": "user", "content": text} for text in texts]
    await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    asked = {"user_id": "ada", "query": "Where in the kitchen is my lamp?", "relativity": 0, "top_k": 50}
    found = (await gateway.post("/product/search/memory", asked)).json["data"]["memory_detail_list"]
    native = (await gateway.post("/product/search", asked)).json["data"]["text_mem"][0]["memories"]
    for shown in ([one["relativity"] for one in found], [one["metadata"]["relativity"] for one in native]):
        assert len(shown) > 5
        assert shown == sorted(shown, reverse=True)


THINGS = [(thing, place) for thing in ("lamp", "bike", "guitar") for place in ("kitchen", "cellar", "attic", "garden")]


async def test_a_standing_preference_passes_the_floor_of_a_chat(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.post(
        "/product/add", {"user_id": "ada", "messages": "I am allergic to peanuts.", "async_mode": "sync"}
    )
    for path in ("/product/chat", COMPLETE):
        await gateway.post(path, {"user_id": "ada", "query": "What should I not cook?"})
        assert "peanuts" in upstream.last.body.decode(), path
        await gateway.post(path, {"user_id": "ada", "query": "What should I not cook?", "include_preference": False})
        assert "peanuts" not in upstream.last.body.decode(), path
