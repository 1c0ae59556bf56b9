"""Upstreams that do things differently, over real sockets."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.running import Running
from tests.fakes.upstream import DONE, FakeUpstream, completion, deltas

CHAT = "/v1/chat/completions"
ADA = {"x-memory-user": "ada"}
QUESTION = {"model": "fake-1", "messages": [{"role": "user", "content": "What is my cat called?"}]}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answers(raw: bytes, content_type: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=raw, headers={"content-type": content_type})

    return handler


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/octet-stream"])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_a_stream_is_recognised_by_its_first_bytes(
    gateway: Running, upstream: FakeUpstream, content_type: str, path: str
) -> None:
    upstream.script = answers(b"".join([b": hello\n\n", *deltas("Understood."), DONE]), content_type)
    body = {**QUESTION, "stream": True, "max_tokens": 9}
    reply = await gateway.post(path, body, {**ADA, "x-memory-session": path + content_type})
    assert (reply.status, reply.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    assert reply.body.rstrip().endswith(b"[DONE]" if path == CHAT else b'"type":"message_stop"}')
    await gateway.settled()
    listed = (await gateway.get("/v1/memory/list?user=ada&limit=1000")).body.decode()
    assert "Understood." in listed


async def test_a_plain_answer_to_a_request_for_a_stream_stays_plain(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = answers(json.dumps(completion("Yes.")).encode(), "application/json")
    reply = await gateway.post(CHAT, {**QUESTION, "stream": True}, ADA)
    assert reply.json["choices"][0]["message"]["content"] == "Yes."


WORDINGS = [
    (400, "This model's maximum context length is 8192 tokens."),
    (400, "the request was not understood"),
    (413, "Request Entity Too Large"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048"),
    (500, "the input exceeds the available context size"),
    (500, "Requested tokens (9000) exceed context window of 8192"),
    (500, "prompt is too long: 9000 tokens > 8192 maximum"),
    (500, "输入长度超过上限"),
]


@pytest.mark.parametrize(("status", "words"), WORDINGS)
async def test_a_refusal_with_a_block_is_tried_once_without_it(
    gateway: Running, upstream: FakeUpstream, status: int, words: str
) -> None:
    await gateway.chat("My cat is called Miso.", session="one")
    await gateway.settled()
    upstream.received.clear()

    async def handler(request: web.Request) -> web.StreamResponse:
        if b"Miso" in await request.read():
            return web.json_response({"error": {"message": words}}, status=status)
        return web.json_response(completion("I do not know."))

    upstream.script = handler
    reply = await gateway.chat("What is my cat called?", session="two")
    assert (reply.status, reply.headers["x-memory-status"]) == (200, "degraded")
    with_block = [b"Miso" in request.body for request in upstream.received]
    assert with_block.count(False) == 1
    assert not with_block[-1]


async def test_other_failures_are_not_asked_again_without_memory(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("My cat is called Miso.", session="one")
    await gateway.settled()
    upstream.received.clear()

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "out of memory on the graphics card"}}, status=500)

    upstream.script = handler
    reply = await gateway.chat("What is my cat called?", session="two")
    assert reply.status == 500
    assert all(b"Miso" in request.body for request in upstream.received)


async def test_an_error_in_a_list_passes_verbatim(gateway: Running, upstream: FakeUpstream) -> None:
    raw = b'[{\n  "error": {\n    "code": 400,\n    "message": "Invalid value",\n    "status": "INVALID"\n  }\n}]'

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, body=raw, content_type="application/json")

    upstream.script = handler
    reply = await gateway.post(CHAT, QUESTION, ADA)
    assert (reply.status, reply.body) == (400, raw)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_a_clean_end_without_a_finish_reason_is_a_cut_stream(
    gateway: Running, upstream: FakeUpstream, path: str
) -> None:
    pieces = [{"id": "c", "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": ""}]} for word in "ab"]
    raw = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces)
    upstream.script = answers(raw, "text/event-stream")
    received = await gateway.broken_off({**QUESTION, "max_tokens": 9, "stream": True}, path)
    assert b"error" in received
    assert b"message_stop" not in received


async def test_a_form_goes_to_the_upstream_that_has_its_model(gateway: Running, upstream: FakeUpstream) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"\x00" * 100_000, filename="a.wav")
    form.add_field("model", "whisper-1")
    async with gateway.session.post(f"{gateway.url}/v1/audio/transcriptions", data=form) as response:
        answer = await response.json()
    assert (response.status, answer["path"]) == (200, "/v1/audio/transcriptions")
    assert b"whisper-1" in upstream.last.body


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ud83d\\ud83d", "\\uD83D"])
async def test_half_of_a_character_ends_no_conversation(gateway: Running, upstream: FakeUpstream, half: str) -> None:
    text = f"My parrot {half} is called Kiwi \\ud83d\\ude00 \\\\ud83d"
    raw = b'{"model": "fake-1", "messages": [{"role": "user", "content": "' + text.encode() + b'"}]}'
    assert (await gateway.post(CHAT, None, ADA, raw=raw)).status == 200
    sent = json.loads(upstream.last.body)["messages"][-1]["content"]
    assert "My parrot \ufffd" in sent
    assert sent.endswith("is called Kiwi \U0001f600 \\ud83d")
    await gateway.settled()
    await gateway.post(CHAT, {**QUESTION, "messages": [{"role": "user", "content": "my parrot?"}]}, ADA)
    assert "Kiwi" in upstream.last.body.decode()


async def test_a_bare_list_of_models_is_a_list(gateway: Running, upstream: FakeUpstream) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response([{"id": "bare-1", "object": "model"}])

    upstream.script = handler
    listed: Any = (await gateway.get("/v1/models")).json
    assert "bare-1" in [card["id"] for card in listed["data"]]


@pytest.mark.parametrize("changes", [{"server__cors_origins": ["https://app.example"]}])
async def test_a_browser_may_send_what_the_anthropic_client_sends(gateway: Running) -> None:
    asked = "x-api-key, anthropic-version, anthropic-dangerous-direct-browser-access, content-type, x-stainless-os"
    headers = {"origin": "https://app.example", "access-control-request-headers": asked}
    async with gateway.session.options(f"{gateway.url}/v1/messages", headers=headers) as response:
        allowed = response.headers["access-control-allow-headers"]
    assert {name.strip() for name in asked.split(",")} <= {name.strip() for name in allowed.split(",")}
