"""Bytes that no honest client or upstream sends: none of them costs more than its own answer."""

import asyncio
import gzip
import json
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Scale
from tests.fakes.process import running_process
from tests.fakes.raw import HEAD, connected, framed, raw_upstream, read_all
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, pause, says, streams

CHAT = {"model": "fake-1", "messages": [{"role": "user", "content": "hello"}]}


async def slowest_health(gateway: Running, during: "asyncio.Task[Any]") -> float:
    """The longest time that `/health` took while something else went on, and no more than was computed meanwhile:
    other processes may have had the processor."""
    slowest = 0.0
    while not during.done():
        began, computed = time.monotonic(), time.process_time()
        assert (await gateway.get("/health")).status == 200
        slowest = max(slowest, min(time.monotonic() - began, time.process_time() - computed))
        await asyncio.wait({during}, timeout=0.02)
    return slowest


BOMBS = {
    "lists": b"[" + b"[]," * 5_000_000 + b"1]",
    "objects": b"[" + b'{"a":1},' * 2_000_000 + b"1]",
    "names": b"{" + b",".join(b'"k%d":1' % number for number in range(1_000_000)) + b"}",
    "numbers": b"[" + b"1.5," * 5_000_000 + b"1]",
    "depth": b"[" * 5_000_000 + b"]" * 5_000_000,
    "open": b'{"a":' * 3_000_000,
    "escapes": b'"' + b'\\"' * 10_000_000 + b'"',
    "quotes": b'[""' + b',""' * 5_000_000 + b"]",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/product/search", "/v1/responses"])
async def test_a_body_of_many_values_is_refused_at_once(gateway: Running, name: str, path: str) -> None:
    value = BOMBS[name]
    raw = (
        b'{"model":"fake-1","user_id":"ada","query":"x","messages":[{"role":"user","content":"x"}],"x":' + value + b"}"
    )
    asking = asyncio.create_task(gateway.post(path, None, raw=raw))
    assert await slowest_health(gateway, asking) < 1.5
    reply = asking.result()
    assert reply.status == (200 if name == "escapes" else 400), reply.body[:200]


async def test_many_tokens_to_embed_pass(gateway: Running, upstream: FakeUpstream) -> None:
    body = {"model": "fake-1", "input": [list(range(1_000))] * 300}
    assert (await gateway.post("/v1/embeddings", body)).status == 200
    assert upstream.last.json == body


async def test_a_bomb_that_is_passed_through_is_refused(gateway: Running, upstream: FakeUpstream) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    headers = {"content-encoding": "gzip", "content-type": "application/octet-stream"}
    asking = asyncio.create_task(gateway.post("/v1/files", None, headers, raw=bomb))
    assert await slowest_health(gateway, asking) < 1.5
    assert asking.result().status == 413


async def test_a_compressed_upload_arrives_whole(gateway: Running, upstream: FakeUpstream) -> None:
    content = b"A" * 5_000
    headers = {"content-encoding": "gzip", "content-type": "application/octet-stream"}
    assert (await gateway.post("/v1/files", None, headers, raw=gzip.compress(content))).status == 200
    assert upstream.last.body == content


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/product/add", "/v1/audio/transcriptions"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("gateway.server.listening._LINGER", 0.5)
    config = configuration(tmp_path, upstream.url, limits__body_timeout=0.5)
    kind = "application/json" if "files" not in path and "audio" not in path else "application/octet-stream"
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: 100\r\n\r\n"
    async with running_gateway(config) as gateway:
        connection = await connected(gateway.url, head.encode() + b'{"half": ')
        answer = await read_all(connection, 8)  # without the two limits it would wait for minutes
        connection.close()
        assert answer.startswith(b"HTTP/1.1 4")
        assert (await gateway.chat("still there?")).status == 200


@pytest.mark.parametrize(
    "path", ["/v1/..%2f..%2fx", "/v1/%2e%2e%2fx", "/v1/..%5c..%5cx", "/v1/a/%252e%252e/x", "/v1/files/..;/x/../y"]
)
async def test_dot_segments_in_disguise_do_not_go_up(gateway: Running, upstream: FakeUpstream, path: str) -> None:
    made = await connected(gateway.url, f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
    answer = await read_all(made, 10)
    made.close()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    assert upstream.received == []


@pytest.mark.parametrize("expectation", ["100-continue", "foo"])
async def test_what_is_expected_is_answered_as_json(gateway: Running, expectation: str) -> None:
    body = json.dumps(CHAT).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nexpect: {expectation}\r\nconnection: close\r\n\r\n"
    )
    made = await connected(gateway.url, head.encode() + body)
    answer = await read_all(made, 10)
    made.close()
    assert b'"choices"' in answer or b'"error"' in answer


def sends(*pieces: bytes) -> Any:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await pause(0.05)

    return answer


FIRST = framed(chunk({"content": "hello"}))


@pytest.mark.parametrize(
    "rest", [b"zz\r\nxx\r\n", b"5\r\nlonger than it says\r\n", b"-1\r\n", b"fffffffffffffffffff\r\nx", b""]
)
@pytest.mark.parametrize("user", ["", "ada"])
async def test_bytes_that_are_no_chunks_are_a_cut(tmp_path: Path, rest: bytes, user: str) -> None:
    async with raw_upstream(sends(HEAD + FIRST, rest)) as url, running_gateway(configuration(tmp_path, url)) as gateway:
        began = time.monotonic()
        received = await gateway.broken_off({**CHAT, "stream": True, **({"user": user} if user else {})})
        assert time.monotonic() - began < 6
        assert b"hello" in received
        assert b'"error"' in received
        assert b"[DONE]" not in received


async def test_a_header_that_no_client_can_read_is_left_out(tmp_path: Path) -> None:
    body = b'{"choices": []}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: a\x01b\r\ncontent-length: 15\r\n\r\n"
    async with raw_upstream(sends(head + body)) as url, running_gateway(configuration(tmp_path, url)) as gateway:
        for path in ("/v1/chat/completions", "/v1/responses"):
            reply = await gateway.post(path, CHAT)
            assert (reply.status, reply.body) == (200, body)
            assert reply.headers.get("x-request-id") != "a\x01b"


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b'{"choices": [], "logprob": -Infinity}',
        b'{"choices": [], "name": "caf\xe9"}',
        b'\xef\xbb\xbf{"choices": []}',
    ],
)
async def test_json_that_only_others_can_read_passes(gateway: Running, upstream: FakeUpstream, body: bytes) -> None:
    for status in (200, 400):
        upstream.script = says(status, body)
        reply = await gateway.post("/v1/chat/completions", CHAT, {"x-memory-user": "ada"})
        assert (reply.status, reply.body) == (status, body)


WHOLE = [
    [chunk({"content": "a"}), b'data: {"error":{},"choices":[]}\n\n', chunk({}, "stop"), DONE],
    [chunk({"content": "a"}), b'data: {"choices":[],"x_meta":{"error":"none"}}\n\n', chunk({}, "stop"), DONE],
    [chunk({"content": "a"}), b'data: {"choices":[],"usage":{"prompt_tokens":' + b"9" * 5_000 + b"}}\n\n", DONE],
    [chunk({"content": "a"}), chunk({}, "stop"), b'data: {"choices":[],"usage":{"prompt_tokens":4}}\n\n'],
]


@pytest.mark.parametrize("pieces", WHOLE)
@pytest.mark.parametrize("user", ["", "ada"])
async def test_odd_streams_that_are_whole_end_as_whole_ones(
    gateway: Running, upstream: FakeUpstream, pieces: list[bytes], user: str
) -> None:
    upstream.script = streams(pieces)
    headers = {"x-memory-user": user} if user else {}
    reply = await gateway.post("/v1/chat/completions", {**CHAT, "stream": True}, headers)
    assert reply.body == b"".join(pieces)


SECRET = {"upstreams__0__api_key": "sk-upstream-secret", "upstreams__0__headers": {"x-extra": "another-secret-value"}}


@pytest.mark.parametrize("changes", [SECRET])
@pytest.mark.parametrize("secret", ["sk-upstream-secret", "another-secret-value"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/product/chat/complete"])
@pytest.mark.parametrize("way", ["plain", "stream"])
async def test_a_key_of_ours_does_not_come_back_from_an_upstream(
    gateway: Running, upstream: FakeUpstream, secret: str, path: str, way: str
) -> None:
    if way == "plain":
        upstream.script = says(429, {"error": {"message": f"the key {secret} is over its quota"}})
    else:
        event = b'data: {"error": {"message": "the key ' + secret.encode() + b' is over its quota"}}\n\n'
        upstream.script = streams([chunk({"content": "a"}), event])
    body = {**CHAT, "user_id": "ada", "query": "hello", "stream": way == "stream"}
    received = bytearray()
    async with gateway.session.post(gateway.url + path, json=body) as response:
        with suppress(aiohttp.ClientPayloadError):  # a stream that is cut
            async for piece in response.content.iter_any():
                received += piece
    assert secret.encode() not in received
    assert "quota" in received.decode() or path.startswith("/product"), received


KEY = "gateway-key-of-app"


@pytest.mark.parametrize("changes", [{"auth__keys": [{"key": KEY}]}])
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer\t{KEY}"},
        {"authorization": f"ApiKey {KEY}"},
        {"authorization": f"{KEY},"},
        {"authorization": f"Bearer sk-other, Bearer {KEY}"},
        {"authorization": f"Bearer:{KEY}"},
        {"authorization": "Basic OmdhdGV3YXkta2V5LW9mLWFwcA=="},
        {"x-api-key": f'"{KEY}"'},
        {"x-api-key": KEY, "authorization": f"Token {KEY}"},
    ],
)
async def test_the_gateways_key_does_not_go_up_in_any_dress(
    gateway: Running, upstream: FakeUpstream, headers: dict[str, str]
) -> None:
    await gateway.post("/v1/chat/completions", CHAT, {"x-gateway-key": KEY, **headers})
    sent = " ".join(upstream.last.headers.values())
    assert KEY not in sent
    assert "Omdh" not in sent


async def test_an_upstream_that_never_ends_is_given_up(tmp_path: Path) -> None:
    async def floods(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{")
        for _ in range(150):
            writer.write(b" " * 2**20)
            await writer.drain()

    async with raw_upstream(floods) as url, running_gateway(configuration(tmp_path, url)) as gateway:
        reply = await gateway.post("/v1/chat/completions", CHAT)
        assert (reply.status, reply.error["code"]) == (502, "upstream_error")


async def test_slow_readers_hold_back_the_upstream(tmp_path: Path, scale: Scale) -> None:
    count, flood = scale(20, 100), 8 * 2**20
    written: list[int] = []
    ended: list[int] = []

    async def floods(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        writer.transport.set_write_buffer_limits(high=65_536)
        place = len(written)
        written.append(0)
        writer.write(HEAD)
        event = framed(chunk({"content": "x" * 900}) * 16)
        try:
            while written[place] < flood:
                writer.write(event)
                await writer.drain()
                written[place] += len(event)
        finally:
            ended.append(place)

    head = json.dumps({**CHAT, "stream": True, "user": "ada"}).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        + f"content-length: {len(head)}\r\n\r\n".encode()
        + head
    )
    async with raw_upstream(floods) as url, running_process(tmp_path, url) as gateway:
        await gateway.settled()
        warm = await connected(gateway.url, request)
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(warm, 65_536), 10)
        warm.close()
        await eventually(lambda: len(ended) == 1, 10)
        written.clear()
        before = gateway.own_mib()
        with ExitStack() as held:
            for _ in range(count):
                made = await connected(gateway.url, request, received_bytes=65_536)
                held.callback(made.close)
            await pause(scale(3, 10))  # as long as it could take more
            assert len(written) == count
            assert max(written) < 0.75 * 2**20, f"{max(written) / 2**20:.2f} MiB ahead"
            assert (gateway.own_mib() - before) / count < 1
            began = time.monotonic()
            await gateway.state()
            assert time.monotonic() - began < 0.5
