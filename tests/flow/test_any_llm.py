"""Upstreams that are asked through the real `any-llm` and a provider's real SDK: Ollama's own format."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.config import UpstreamConfig
from gateway.errors import ConfigError
from gateway.upstream.any_llm import AnyLlmUpstream
from tests.fakes.assistant import PICTURE
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, pause

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
USED = {"prompt_eval_count": 9, "eval_count": 4, "done_reason": "stop"}


def line(content: str, *, done: bool = False, **message: Any) -> dict[str, Any]:
    made = {"model": "fake-1", "created_at": "2026-01-01T00:00:00Z", "done": done}
    return {**made, "message": {"role": "assistant", "content": content, **message}, **(USED if done else {})}


async def ollama(request: web.Request) -> web.StreamResponse:
    """A small Ollama: its own chat format, lines of JSON as its stream."""
    if request.path.endswith("/api/tags"):
        return web.json_response({"models": [{"model": "fake-1", "name": "fake-1"}]})
    body = await request.json()
    if body["model"] == "missing":
        return web.json_response({"error": "model 'missing' not found"}, status=404)
    if body["model"] == "breaks":
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps(line("half")).encode() + b"\n")
        assert request.transport is not None
        request.transport.close()
        return response
    call = {"function": {"name": "weather", "arguments": {"city": "Lisbon"}}}
    has_result = body["messages"][-1]["role"] == "tool"
    said = line("", tool_calls=[call]) if body.get("tools") and not has_result else line("Understood, and noted.")
    if not body.get("stream"):
        return web.json_response({**said, "done": True, **USED})
    response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
    await response.prepare(request)
    for one in (said, line("", done=True)):
        await response.write(json.dumps(one).encode() + b"\n")
    await response.write_eof()
    return response


@pytest.fixture
async def asked(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Running]:
    upstream.script = ollama
    one = {"name": "up", "kind": "any-llm", "provider": "ollama", "base_url": upstream.url.removesuffix("/v1")}
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one])) as gateway:
        yield gateway


async def test_a_provider_of_another_format_remembers_too(asked: Running, upstream: FakeUpstream) -> None:
    told = await asked.chat("My cat is called Miso.")
    assert told.json["choices"][0]["message"]["content"] == "Understood, and noted."
    assert (told.json["usage"]["prompt_tokens"], told.json["usage"]["completion_tokens"]) == (9, 4)
    await asked.settled()
    streamed = await asked.chat("What is the name of my cat?", session="two", stream=True)
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert b"Understood" in streamed.body
    assert "My cat is called Miso." in upstream.last.json["messages"][-1]["content"]
    assert upstream.last.path == "/api/chat"


async def test_tools_and_pictures_go_through(asked: Running, upstream: FakeUpstream) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "weather?"}]
    for stream in (False, True):
        answer = await asked.chat("", messages=messages, tools=[WEATHER], stream=stream)
        assert b'"name":"weather"' in answer.body.replace(b'": "', b'":"')
        assert b"Lisbon" in answer.body
    call = (await asked.chat("", messages=messages, tools=[WEATHER])).json["choices"][0]["message"]
    messages += [call, {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "sunny"}]
    assert (await asked.chat("", messages=messages, tools=[WEATHER])).json["choices"][0]["finish_reason"] == "stop"
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    await asked.chat("", messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}])
    assert upstream.last.json["messages"][-1]["images"] == [PICTURE]


async def test_its_errors_are_errors(asked: Running, upstream: FakeUpstream) -> None:
    missing = await asked.chat("hi", model="missing")
    assert (missing.status, "missing" in missing.error["message"]) == (404, True)
    cut = await asked.broken_off({"model": "breaks", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    assert b"half" in cut
    assert b"[DONE]" not in cut
    assert (await asked.post("/v1/responses", {"model": "fake-1", "input": "hi"})).status == 404
    assert (await asked.get("/v1/models")).json["data"][0]["id"] == "fake-1"
    message = {"model": "fake-1", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    assert (await asked.post("/v1/messages", message)).json["content"][0]["text"] == "Understood, and noted."


def test_a_provider_that_is_not_installed_is_told_at_the_start() -> None:
    for provider in ("cohere", "nobody"):
        with pytest.raises(ConfigError, match=provider):
            AnyLlmUpstream(UpstreamConfig(name="up", kind="any-llm", provider=provider, models=("x",)))


@pytest.mark.parametrize("wrong", [{"kind": "any-llm"}, {"provider": "cohere"}, {"headers": {"a": "b"}}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    sound = {"name": "up", "kind": "any-llm", "provider": "cohere"} if "headers" in wrong else {"name": "up"}
    with pytest.raises(ValueError, match="any-llm"):
        UpstreamConfig(**{"base_url": "http://x/v1", **sound, **wrong})


async def test_a_clients_mistake_is_no_failure_of_the_upstream(asked: Running, upstream: FakeUpstream) -> None:
    for wrong in ({"reasoning_effort": "bogus"}, {"temperature": "hot"}, {"response_format": {"type": "json_schema"}}):
        for _ in range(3):
            assert (await asked.chat("hi", **wrong)).status == 400, wrong
    assert (await asked.chat("hi")).status == 200


async def test_the_whole_answer_has_its_time(tmp_path: Path, upstream: FakeUpstream) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        for _ in range(20):
            await response.write(json.dumps(line("word ")).encode() + b"\n")
            await pause(0.1)
        return response

    upstream.script = slow
    one = {"name": "up", "kind": "any-llm", "provider": "ollama", "base_url": upstream.url.removesuffix("/v1")}
    one["timeouts"] = {"total": 0.5}  # type: ignore[assignment]  # a configuration is what YAML can hold
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one])) as gateway:
        cut = await gateway.broken_off({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]})
        assert b"upstream_timeout" in cut


async def test_its_connections_are_closed_with_the_gateway(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.script = ollama
    one = {"name": "up", "kind": "any-llm", "provider": "ollama", "base_url": upstream.url.removesuffix("/v1")}
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one])) as gateway:
        assert (await gateway.chat("hi")).status == 200
        assert upstream.connections() == 1, "kept for the next one"
    await eventually(lambda: upstream.connections() == 0)
