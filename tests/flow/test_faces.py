"""Responses and messages with memory, and each of the two formats over an upstream that speaks the other."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.messages import MessagesReader
from gateway.formats.sse import EventParser
from tests.fakes.formats import message_events, response_events, speaks_messages, speaks_responses
from tests.fakes.running import Reply, Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, completion, cuts_after, running_upstream, says, streams

FACT = "My cat is called Miso and I live in Lisbon."
QUESTION = "What is the name of my cat?"
ADA = {"x-memory-user": "ada"}


async def ask_message(gateway: Running, text: str, **body: Any) -> Reply:
    asked = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": text}], **body}
    return await gateway.post("/v1/messages", asked, ADA)


async def ask_response(gateway: Running, said: Any, **body: Any) -> Reply:
    return await gateway.post("/v1/responses", {"model": "m", "input": said, **body}, ADA)


@pytest.fixture
async def anthropic(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Running]:
    """A gateway before an upstream that speaks Anthropic's format."""
    upstream.script = speaks_messages()
    config = {"name": "claude", "kind": "anthropic", "base_url": upstream.url, "api_key": "sk-ant-up"}
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[config])) as running:
        yield running


@pytest.mark.parametrize("is_stream", [False, True])
async def test_messages_have_a_memory(anthropic: Running, upstream: FakeUpstream, is_stream: bool) -> None:
    told = await ask_message(anthropic, FACT, stream=is_stream)
    assert (told.status, told.headers["x-memory-status"]) == (200, "miss")
    await anthropic.settled()
    asked = await ask_message(anthropic, QUESTION, stream=is_stream, system="Be kind.")
    assert asked.headers["x-memory-status"] == "hit"
    sent = upstream.last
    assert sent.path == "/v1/messages"
    assert (sent.headers["x-api-key"], sent.headers["anthropic-version"]) == ("sk-ant-up", "2023-06-01")
    assert "authorization" not in sent.headers
    content = sent.json["messages"][0]["content"]
    assert FACT in content
    assert content.endswith(QUESTION)
    assert sent.json["system"] == "Be kind."


async def test_a_stream_of_messages_passes_byte_for_byte(anthropic: Running, upstream: FakeUpstream) -> None:
    reply = await ask_message(anthropic, "hi", stream=True)
    assert reply.body == b"".join(message_events("Understood."))


async def test_a_tool_loop_of_messages_recalls_once(anthropic: Running, upstream: FakeUpstream) -> None:
    await ask_message(anthropic, FACT)
    await anthropic.settled()
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    await ask_message(anthropic, QUESTION, tools=tools)
    first = upstream.last.json["messages"]
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]}
    question = {"role": "user", "content": QUESTION}
    await ask_message(anthropic, "", messages=[question, call, result], tools=tools)
    assert upstream.last.json["messages"] == [*first, call, result]


async def test_errors_of_the_messages_face_are_anthropics(anthropic: Running, upstream: FakeUpstream) -> None:
    broken = await anthropic.post("/v1/messages", {"model": "m"}, ADA)
    assert (broken.status, broken.json["type"], broken.json["error"]["type"]) == (400, "error", "invalid_request_error")
    upstream.script = says(502, b"<html>bad gateway</html>", "text/html")
    html = await ask_message(anthropic, "hi")
    assert (html.status, html.json["type"], html.json["error"]["type"]) == (502, "error", "api_error")
    refused = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    upstream.script = says(429, refused, **{"retry-after": "9"})
    reply = await ask_message(anthropic, "hi")
    assert (reply.status, reply.json, reply.headers["retry-after"]) == (429, refused, "9")


async def test_tokens_are_counted_by_the_upstream_or_here(
    anthropic: Running, upstream: FakeUpstream, tmp_path: Path
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "how many?"}]}
    assert (await anthropic.post("/v1/messages/count_tokens", body)).json == {"input_tokens": 12}
    (tmp_path / "other").mkdir()
    async with running_gateway(configuration(tmp_path / "other", upstream.url)) as gateway:
        counted = await gateway.post("/v1/messages/count_tokens", body)
        assert 3 < counted.json["input_tokens"] < 40


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_chat_goes_to_an_upstream_of_messages(
    anthropic: Running, upstream: FakeUpstream, is_stream: bool
) -> None:
    upstream.script = speaks_messages("The best bakery is Padaria Sol.")
    await anthropic.chat(FACT, stream=is_stream)
    await anthropic.settled()
    upstream.script = speaks_messages("The best bakery is Padaria Sol.", tool={"a": 1})
    reply = await anthropic.chat(QUESTION, session="two", stream=is_stream, stream_options={"include_usage": True})
    assert reply.status == 200
    sent = upstream.last
    assert (sent.path, sent.headers["x-api-key"]) == ("/v1/messages", "sk-ant-up")
    assert FACT in json.dumps(sent.json["messages"])
    if is_stream:
        events = EventParser().feed(reply.body)
        assert events[-1].data == b"[DONE]"
        chunks = [json.loads(event.data) for event in events[:-1]]
        text = "".join(one["delta"].get("content") or "" for piece in chunks for one in piece["choices"])
        assert chunks[-1]["usage"]["prompt_tokens"] == 20
    else:
        text = reply.json["choices"][0]["message"]["content"]
        assert reply.json["choices"][0]["finish_reason"] == "tool_calls"
    assert text == "The best bakery is Padaria Sol."
    await anthropic.settled()
    await anthropic.chat("Which bakery did you name?", session="three")
    assert "Padaria Sol" in json.dumps(upstream.last.json["messages"])


async def test_a_chat_gets_errors_of_an_upstream_of_messages_in_its_own_format(
    anthropic: Running, upstream: FakeUpstream
) -> None:
    told = {"type": "error", "error": {"type": "not_found_error", "message": "model: m"}}
    upstream.script = says(404, told)
    reply = await anthropic.chat("hi")
    assert (reply.status, reply.error["message"], reply.error["code"]) == (404, "model: m", "not_found_error")
    refused = await anthropic.chat("hi", n=3)
    assert (refused.status, refused.error["param"]) == (400, "n")
    missing = await anthropic.post("/v1/embeddings", {"model": "m", "input": "x"})
    assert (missing.status, missing.error["code"]) == (404, "not_found")


async def test_a_stream_of_messages_that_is_cut_is_a_cut_chat(anthropic: Running, upstream: FakeUpstream) -> None:
    upstream.script = cuts_after(message_events("It began well")[:4])
    raw = await anthropic.broken_off({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    assert b"stream_interrupted" in raw
    assert b"[DONE]" not in raw


@pytest.mark.parametrize("is_stream", [False, True])
async def test_messages_go_to_an_upstream_of_chats(gateway: Running, upstream: FakeUpstream, is_stream: bool) -> None:
    upstream.reply = "The best bakery is Padaria Sol."
    await ask_message(gateway, FACT, stream=is_stream)
    await gateway.settled()
    reply = await ask_message(gateway, QUESTION, stream=is_stream, system="Be kind.")
    assert reply.headers["x-memory-status"] == "hit"
    sent = upstream.last
    assert sent.path == "/v1/chat/completions"
    assert sent.json["messages"][0] == {"role": "system", "content": "Be kind."}
    assert FACT in sent.json["messages"][1]["content"]
    if is_stream:
        reader = MessagesReader()
        reader.feed(reply.body)
        assert (reader.is_complete, reader.answer().text) == (True, upstream.reply)
    else:
        assert reply.json["content"] == [{"type": "text", "text": upstream.reply}]
        assert reply.json["usage"]["output_tokens"] == 5


async def test_errors_of_an_upstream_of_chats_come_in_anthropics_format(
    gateway: Running, upstream: FakeUpstream
) -> None:
    upstream.script = says(429, {"error": {"message": "slow", "type": "rate", "param": None, "code": "r"}})
    reply = await ask_message(gateway, "hi")
    assert reply.status == 429
    assert reply.json == {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}
    upstream.script = says(500, b"<html>oops</html>", "text/html")
    assert (await ask_message(gateway, "hi")).json["error"]["type"] == "api_error"
    tool = {"type": "web_search_20250305", "name": "web_search"}
    refused = await ask_message(gateway, "hi", tools=[tool])
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("is_stream", [False, True])
async def test_responses_have_a_memory(gateway: Running, upstream: FakeUpstream, is_stream: bool) -> None:
    upstream.script = speaks_responses("The best bakery is Padaria Sol.")
    told = await ask_response(gateway, FACT, stream=is_stream)
    assert (told.status, told.headers["x-memory-status"]) == (200, "miss")
    await gateway.settled()
    item = {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}
    asked = await ask_response(gateway, [item], stream=is_stream, instructions="Be kind.")
    assert asked.headers["x-memory-status"] == "hit"
    sent = upstream.last.json
    assert FACT in sent["input"][0]["content"][0]["text"]
    assert sent["input"][0]["content"][0]["text"].endswith(QUESTION)
    assert sent["instructions"] == "Be kind."
    await gateway.settled()
    await ask_response(gateway, "Which bakery did you name?")
    assert "Padaria Sol" in upstream.last.json["input"]


async def test_a_stream_of_responses_passes_byte_for_byte_and_a_cut_one_is_told(
    gateway: Running, upstream: FakeUpstream
) -> None:
    upstream.script = speaks_responses("All is well.")
    assert (await ask_response(gateway, "hi", stream=True)).body == b"".join(response_events("All is well."))
    upstream.script = cuts_after(response_events("half of it")[:6])
    raw = await gateway.broken_off({"model": "m", "input": "hi", "stream": True}, "/v1/responses")
    assert b"event: error" in raw
    assert b"response.completed" not in raw


async def test_what_is_said_before_lies_where_it_was_said(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_upstream() as second:
        upstream.script = speaks_responses("First.", "resp_first")
        second.script = speaks_responses("Second.", "resp_second")
        upstreams = [
            {"name": "one", "base_url": upstream.url, "models": ["a"]},
            {"name": "two", "base_url": second.url, "models": ["*"]},
        ]
        async with running_gateway(configuration(tmp_path, upstream.url, upstreams=upstreams)) as gateway:
            await ask_response(gateway, FACT, model="b")
            await gateway.settled()
            before = len(second.received)
            output = {"type": "function_call_output", "call_id": "c", "output": "42"}
            step = await ask_response(gateway, [output], model="b", previous_response_id="resp_second")
            assert step.headers["x-memory-count"] == "0"
            assert second.last.json["input"] == [output]
            async with gateway.session.get(f"{gateway.url}/v1/responses/resp_second", headers=ADA) as stored:
                assert (await stored.json())["id"] == "resp_second"
            async with gateway.session.delete(f"{gateway.url}/v1/responses/resp_second", headers=ADA) as stored:
                assert stored.status == 200
            assert [one.method for one in second.received[before:]] == ["POST", "GET", "DELETE"]
            assert not upstream.received


async def test_a_later_question_belongs_to_the_conversation_of_the_earlier(
    gateway: Running, upstream: FakeUpstream
) -> None:
    upstream.script = speaks_responses("Noted.", "resp_9")
    await ask_response(gateway, FACT)
    await ask_response(gateway, "And my dog is called Rex.", previous_response_id="resp_9")
    await gateway.settled()
    async with gateway.session.get(f"{gateway.url}/v1/memory/export") as response:
        records = [json.loads(line) for line in (await response.text()).splitlines()]
    assert len({record["session_id"] for record in records}) == 1


async def test_a_response_of_another_tenant_does_not_exist(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.script = speaks_responses("Noted.", "resp_5")
    keys = [{"key": "key-of-acme", "tenant": "acme"}, {"key": "key-of-umbra", "tenant": "umbra"}]
    async with running_gateway(configuration(tmp_path, upstream.url, auth={"keys": keys})) as gateway:
        acme, umbra = ({"authorization": f"Bearer {key['key']}", **ADA} for key in keys)
        body = {"model": "m", "input": "hi"}
        assert (await gateway.post("/v1/responses", body, acme)).status == 200
        foreign = await gateway.post("/v1/responses", {**body, "previous_response_id": "resp_5"}, umbra)
        assert foreign.status == 404
        assert (await gateway.post("/v1/responses", {**body, "previous_response_id": "resp_5"}, acme)).status == 200
        for path in (
            "/v1/responses/resp_5",
            "/v1/responses/%72esp_5",
            "/v1//responses/resp_5",
            "/responses/resp_5/cancel",
        ):
            assert (await gateway.get(path, umbra)).status == 404, path
        for path in ("/v1/responses/compact", "/v1/responses/input_tokens"):
            asked = await gateway.post(path, {**body, "previous_response_id": "resp_5"}, umbra)
            assert asked.status == 404, path
        assert (await gateway.get("/v1/responses/%72esp_5", acme)).status == 200


async def test_the_prefix_of_a_conversation_is_what_it_is_without_memory(
    gateway: Running, upstream: FakeUpstream
) -> None:
    await gateway.chat(FACT, session="before")
    await gateway.settled()
    messages: list[dict[str, str]] = [{"role": "system", "content": "Be kind."}]
    for question in (QUESTION, "And where do I live?", "Is my cat in Lisbon?"):
        messages.append({"role": "user", "content": question})
        reply = await gateway.chat("", session="now", messages=messages)
        assert reply.headers["x-memory-status"] == "hit"
        sent = upstream.last.json["messages"]
        assert sent[:-1] == messages[:-1]
        assert sent[-1]["content"].endswith(question)
        messages.append({"role": "assistant", "content": "Yes."})


async def test_an_odd_plain_answer_is_no_message(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(200, b"<html>", "text/html")
    reply = await ask_message(gateway, "hi")
    assert (reply.status, reply.json["error"]["type"]) == (502, "api_error")
    upstream.script = says(200, completion(None))
    assert (await ask_message(gateway, "hi")).json["content"] == []


async def test_odd_parts_of_tools_are_no_fault_of_ours(anthropic: Running, upstream: FakeUpstream) -> None:
    deep = "[" * 300 + "]" * 300
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"a":{deep}}}'}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}]
    messages.append({"role": "tool", "tool_call_id": "c", "content": "42"})
    assert (await anthropic.chat("", messages=messages)).status == 200
    events = [
        b'data: {"type":"content_block_start","index":[1],"content_block":{"type":"tool_use","id":"t","name":"f"}}\n\n'
    ]
    upstream.script = streams([*message_events("x")[:1], *events, *message_events("x")[-2:]])
    assert (await anthropic.chat("hi", stream=True)).body.endswith(b"data: [DONE]\n\n")
    await anthropic.get("/v1/chat/completions")
    assert (upstream.received[-1].method, upstream.received[-1].body) == ("GET", b"")


async def test_a_users_response_is_not_anothers_of_the_same_key(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = speaks_responses("Noted.", "resp_7")
    ada, bob = {"x-memory-user": "ada"}, {"x-memory-user": "bob"}
    await gateway.post("/v1/responses", {"model": "m", "input": "hi", "stream": True}, ada)
    assert (await gateway.get("/v1/responses/resp_7", bob)).status == 404
    body = {"model": "m", "input": "hi", "previous_response_id": "resp_7"}
    for path in ("/v1/responses", "/v1/responses/compact"):
        assert (await gateway.post(path, body, bob)).status == 404
    assert (await gateway.get("/v1/responses/resp_7", ada)).status == 200
    assert (await gateway.get("/v1/responses/resp_7")).status == 200, "a key that names nobody sees all of its own"


async def test_a_conversation_stays_where_it_is_held(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.script = speaks_responses("Noted.")
    rights = ["chat", "memory", "upstream_state"]
    keys = [{"key": f"key-{name}", "tenant": name, "rights": rights} for name in ("acme", "umbra")]
    async with running_upstream() as other:
        other.script = speaks_responses("Noted.")
        both = [{"name": name, "base_url": one.url, "weight": 1} for name, one in (("a", upstream), ("b", other))]
        config = configuration(tmp_path, upstream.url, upstreams=both, auth={"keys": keys})
        async with running_gateway(config) as gateway:
            body = {"model": "m", "input": "hi", "conversation": {"id": "conv_1"}}
            acme, umbra = {"x-gateway-key": "key-acme"}, {"x-gateway-key": "key-umbra"}
            went = {(await gateway.post("/v1/responses", body, acme)).headers["x-gateway-upstream"] for _ in range(8)}
            assert len(went) == 1
            assert (await gateway.post("/v1/responses", {**body, "conversation": "conv_1"}, umbra)).status == 404


@pytest.mark.parametrize(
    "path",
    ["/v1/chat%2Fcompletions", "/v1/chat/completions/", "/v1/v1/chat/completions", "/v1/Responses"],
)
async def test_no_path_leads_round_memory_and_limits(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    assert (await gateway.post(path, {"model": "m", "messages": [{"role": "user", "content": "hi"}]})).status == 404
    assert not upstream.received
