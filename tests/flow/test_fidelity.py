"""Bytes through: what nobody asked us to change arrives as it was sent, both ways."""

import gzip
import json

import aiohttp
import pytest

from tests.fakes.running import Running
from tests.fakes.upstream import DONE, FakeUpstream, chunk, completion, deltas, says, streams

ODD_STREAM = [
    b": OPENROUTER PROCESSING\n\n",
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "h\u00e9llo \u4f60\u597d"}, index=0),
    chunk({"content": "second choice"}, index=1),
    chunk({"tool_calls": [{"index": 1, "function": {"arguments": '{"a"'}}]}),
    b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "x_vendor": null}\r\n\r\n',
    b'data:{"choices":[{"index":0,"delta":{"refusal":"no","logprobs":null},"finish_reason":"stop"}]}\n\n',
    b"event: odd\ndata: {broken json\n\n",
    DONE,
]


async def test_a_stream_passes_byte_for_byte(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = streams(ODD_STREAM)
    reply = await gateway.chat("hello", stream=True)
    assert reply.body == b"".join(ODD_STREAM)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["x-accel-buffering"] == "no"


async def test_a_stream_cut_anywhere_passes_byte_for_byte(gateway: Running, upstream: FakeUpstream) -> None:
    whole = b"".join(ODD_STREAM)
    upstream.script = streams([whole[i : i + 7] for i in range(0, len(whole), 7)])
    assert (await gateway.chat("hello", stream=True)).body == whole


async def test_a_stream_is_passed_on_read_by_read(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = streams([*deltas("one two three"), DONE], pause=0.05)
    body = {"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
        arrived = [piece async for piece in response.content.iter_any()]
    assert len(arrived) >= 4


async def test_a_stream_without_done_but_with_a_finish_reason_is_whole(
    gateway: Running, upstream: FakeUpstream
) -> None:
    pieces = deltas("The moon is made of rock.")
    upstream.script = streams(pieces)
    reply = await gateway.chat("What is the moon?", session="one", stream=True)
    assert reply.body == b"".join(pieces)
    await gateway.settled()
    await gateway.chat("What did you say the moon is made of?", session="two")
    assert "assistant: The moon is made of rock." in upstream.last.body.decode()


async def test_unknown_fields_survive_both_ways(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(200, {**completion("ok"), "x_new": {"deep": [1, None]}})
    reply = await gateway.chat("hello", guided_json={"a": 1}, seed=None, logit_bias={"50256": -100})
    sent = upstream.last.json
    assert sent["guided_json"] == {"a": 1}
    assert sent["seed"] is None
    assert reply.json["x_new"] == {"deep": [1, None]}


async def test_nothing_injected_means_the_same_bytes(gateway: Running, upstream: FakeUpstream) -> None:
    raw = b'{ "model":"fake-1","temperature":1.0, "messages":[ {"role":"user","content":"\\u00e9 hi"} ], "n": 1E0 }'
    await gateway.post("/v1/chat/completions", None, {"x-memory-user": "nobody-yet"}, raw=raw)
    assert upstream.last.body == raw


async def test_injecting_moves_nothing_else(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("My cat is called Miso.", session="one")
    await gateway.settled()
    head, tail = (
        b'{ "seed": 12345678901234567890123, "messages":[{"role":"user","content":"',
        b'Name of my cat?"}],\n"model":"fake-1"}',
    )
    await gateway.post("/v1/chat/completions", None, {"x-memory-user": "ada"}, raw=head + tail)
    assert upstream.last.body.startswith(head)
    assert upstream.last.body.endswith(tail)
    assert b"Miso" in upstream.last.body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "//v1//chat/completions"])
async def test_base_urls_of_all_habits_work(gateway: Running, path: str) -> None:
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "hi"}]}
    assert (await gateway.post(path, body)).status == 200


async def test_other_routes_pass_through_with_method_and_query(gateway: Running, upstream: FakeUpstream) -> None:
    reply = await gateway.get("/v1/files?limit=3&after=a%20b")
    assert reply.status == 200
    assert (upstream.last.method, upstream.last.path, upstream.last.query) == (
        "GET",
        "/v1/files",
        "limit=3&after=a%20b",
    )
    async with gateway.session.delete(f"{gateway.url}/v1/files/file%2F1") as response:
        assert response.status == 200
    assert (upstream.last.method, upstream.last.path) == ("DELETE", "/v1/files/file%2F1")


async def test_multipart_passes_unbuffered_with_its_boundary(gateway: Running, upstream: FakeUpstream) -> None:
    form = aiohttp.FormData()
    form.add_field("purpose", "assistants")
    form.add_field("file", bytes(range(256)) * 4096, filename="b.bin")
    async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as response:
        assert response.status == 200
    assert upstream.last.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert bytes(range(256)) * 4096 in upstream.last.body


async def test_a_binary_answer_passes(gateway: Running, upstream: FakeUpstream) -> None:
    sound = bytes(range(256)) * 1000
    upstream.script = says(200, sound, "audio/mpeg")
    reply = await gateway.post("/v1/audio/speech", {"model": "fake-1", "input": "hi"})
    assert reply.body == sound
    assert reply.headers["content-type"] == "audio/mpeg"


async def test_embeddings_pass_as_they_are(gateway: Running, upstream: FakeUpstream) -> None:
    answer = {"object": "list", "data": [{"index": 0, "embedding": "AACAPw=="}], "model": "e"}
    upstream.script = says(200, answer)
    raw = b'{"model":"e","input":["a"],"encoding_format":"base64"}'
    reply = await gateway.post("/v1/embeddings", None, raw=raw)
    assert reply.json == answer
    assert upstream.last.body == raw


async def test_headers_pass_by_allow_list(gateway: Running, upstream: FakeUpstream) -> None:
    passed = {"openai-organization": "org-1", "traceparent": "00-1-2-01", "x-stainless-retry-count": "1"}
    kept = {"cookie": "a=b", "x-memory-user": "ada", "x-forwarded-for": "10.0.0.1", "x-private": "1"}
    upstream.script = says(
        200,
        completion("ok"),
        **{
            "set-cookie": "s=1",
            "x-ratelimit-remaining-requests": "9",
            "server": "secret",
            "openai-organization": "org-of-ours",
            "x-request-id": "up-1",
        },
    )
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "hi"}]}
    reply = await gateway.post("/v1/chat/completions", body, passed | kept | {"user-agent": "app/1"})
    sent = upstream.last.headers
    assert {name: sent.get(name) for name in passed} == passed
    assert not set(kept) & set(sent)
    assert sent["user-agent"].startswith("app/1 memory-gateway/")
    assert reply.headers["x-ratelimit-remaining-requests"] == "9"
    assert reply.headers["x-request-id"] == "up-1"
    assert not {"set-cookie", "openai-organization"} & set(reply.headers)
    assert reply.headers.get("server") != "secret"


async def test_a_gzipped_answer_passes_and_is_remembered(gateway: Running, upstream: FakeUpstream) -> None:
    packed = gzip.compress(json.dumps(completion("Oslo is the capital.")).encode())
    upstream.script = says(200, packed, **{"content-encoding": "gzip"})
    reply = await gateway.chat("Capital of Norway?", session="one")
    assert reply.json["choices"][0]["message"]["content"] == "Oslo is the capital."
    await gateway.settled()
    upstream.script = None
    await gateway.chat("Which capital did you name?", session="two")
    assert "Oslo is the capital." in upstream.last.body.decode()


async def test_a_gzipped_request_is_understood(gateway: Running, upstream: FakeUpstream) -> None:
    body = json.dumps({"model": "fake-1", "messages": [{"role": "user", "content": "hi"}]}).encode()
    reply = await gateway.post("/v1/chat/completions", None, {"content-encoding": "gzip"}, raw=gzip.compress(body))
    assert reply.status == 200
    assert upstream.last.body == body


async def test_models_merge_the_upstreams_and_our_names(gateway: Running) -> None:
    listed = (await gateway.get("/v1/models")).json
    assert [card["id"] for card in listed["data"]] == ["fake-1", "default"]
    assert (await gateway.get("/v1/models/fake-1")).json["owned_by"] == "f"
    missing = await gateway.get("/v1/models/none/such")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("changes", [{"models": {"default": "fake-1", "aliases": {"mine": "fake-9"}}}])
async def test_aliases_rename_the_model_on_the_way_up(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("hi", model="mine")
    assert upstream.last.json["model"] == "fake-9"
    await gateway.chat("hi", model="default")
    assert upstream.last.json["model"] == "fake-1"


async def test_every_answer_has_our_request_id(gateway: Running) -> None:
    for reply in (await gateway.chat("hi"), await gateway.get("/health"), await gateway.get("/nowhere")):
        assert len(reply.headers["x-gateway-request-id"]) == 32
        assert reply.headers["x-request-id"]
