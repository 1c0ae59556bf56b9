"""What a worker hands over to the owner of the store is answered as if the client had come to the owner itself."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.raw import connected, read_all
from tests.fakes.running import Running, configuration, eventually
from tests.fakes.upstream import FakeUpstream
from tests.fakes.worker_group import WorkerGroup, running_workers
from tests.flow.test_memory_isolation import ADMIN, BY_ID, BY_USER, ME

KEY = "key-of-acme-admin"
KEYS: list[dict[str, Any]] = [
    {"key": KEY, "tenant": "acme", "name": "boss", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-rival-1", "tenant": "rival", "name": "rival"},
    {"key": "key-of-ada-at-acme", "tenant": "acme", "user": "ada", "name": "ada's"},
    {"key": "key-for-chat-only", "tenant": "acme", "name": "chat", "rights": ["chat"]},
]
HIDDEN = re.compile(
    rb"(?im)^(?:x-request-id|x-gateway-request-id|date): [^\r]*\r\n"
    rb"|(?<=gateway_session=)[^;]+"
    rb'|(?<="request_id":")[0-9a-f]+'
)
"""Values that are different in each response."""


@pytest.fixture(autouse=True)
def _linger_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.listening._LINGER", 0.2)


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth__keys": KEYS, "server__cors_origins": ["https://app.example"]}


@pytest.fixture
async def workers(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> AsyncIterator[WorkerGroup]:
    config = configuration(tmp_path, upstream.url, **changes)
    async with running_workers(config, 2) as started:
        yield started


async def exchange(worker: Running, request: bytes, timeout: float = 10) -> bytes:
    """The response to these bytes, without what is different in each."""
    connection = await connected(worker.url, request)
    try:
        return normalized(HIDDEN.sub(b"", await read_all(connection, timeout)))
    finally:
        connection.close()


def normalized(response: bytes) -> bytes:
    """A response with its headers in order, and without the places where its body is divided into chunks."""
    head, separator, body = response.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    if status.startswith(b"HTTP/1.1 100"):
        return head + separator + normalized(body)
    pairs = [header.partition(b":") for header in headers]
    head = b"\r\n".join([status, *sorted(name.lower() + colon + value for name, colon, value in pairs)])
    if b"transfer-encoding: chunked" not in head.lower():
        return head + separator + body
    content = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return head + separator + content + b"<end>"
        content, body = content + rest[:length], rest[length + 2 :]
    return head + separator + content + b"<cut>"


def request(
    method: str, path: str, body: bytes = b"", *, key: str = KEY, host: str = "localhost", headers: bytes = b""
) -> bytes:
    """The bytes of a request, on a connection that ends with its response."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: " + host.encode(), b"Connection: close"]
    if key:
        lines.append(b"Authorization: Bearer " + key.encode())
    if body or method in ("POST", "PATCH", "PUT"):
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, headers]).rstrip(b"\r\n") + b"\r\n\r\n" + body


async def both(workers: WorkerGroup, raw: bytes) -> bytes:
    """The response, which is the same through both workers."""
    direct = await exchange(workers.owner, raw)
    handed_over = await exchange(workers[1], raw)
    assert handed_over == direct, raw[:200]
    return direct


async def test_every_route_of_the_memory_is_answered_alike(workers: WorkerGroup) -> None:
    raw = request("POST", "/v1/memory", json.dumps({"user": "ada", "text": "My cat is called Miso."}).encode())
    (message, *_) = json.loads((await exchange(workers[1], raw)).partition(b"\r\n\r\n")[2])["data"]
    for method, path, body in [*BY_ID, *BY_USER, *ADMIN, *ME]:
        for id_ in (message["id"], "f" * 32):
            if method in ("DELETE", "PATCH", "POST") and id_ == message["id"]:
                continue  # these change it
            for key in (KEY, "key-of-rival-1", "key-of-ada-at-acme", "key-for-chat-only", "unknown-key", ""):
                target = path.replace("{id}", id_).replace("USER", "nobody" if body else "ada")
                data = b"" if body is None else json.dumps(body).replace("USER", "nobody").encode()
                if path.endswith(("/import", "/reindex", "/forget", "/memory")) and method == "POST":
                    continue  # these change more
                if (method, key) == ("DELETE", "key-of-ada-at-acme"):
                    continue
                await both(workers, request(method, target, data, key=key))


OTHERS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/", None),
    ("GET", "/health", None),
    ("HEAD", "/health", None),
    ("HEAD", "/ready", None),
    ("GET", "/docs", None),
    ("GET", "/openapi.json", None),
    ("GET", "/ui", None),
    ("GET", "/ui/", None),
    ("HEAD", "/ui/", None),
    ("GET", "/ui/missing.js", None),
    ("DELETE", "/ui/session", None),
    ("GET", "/v1/turns", None),
    ("GET", "/v1/turns?limit=x", None),
    ("DELETE", "/v1/turns", None),
    ("GET", "/v1/usage?since=2020-01-01&until=2020-02-01", None),
    ("GET", "/v1/gateway/config", None),
    ("GET", "/v1/gateway/keys", None),
    ("GET", "/v1/gateway/nothing", None),
    ("GET", "//v1//gateway//keys", None),
    ("GET", "/v1/g%61teway/keys", None),
    ("GET", "/v1%2Fgateway/keys", None),
    ("GET", "http://elsewhere.example/v1/gateway/keys", None),
    ("OPTIONS", "/v1/turns", None),
    ("POST", "/product/search", {"user_id": "ada", "query": "cat"}),
    ("POST", "/product/search", {"user_id": 1}),
    ("POST", "/product/nothing", {}),
    ("GET", "/product/users", None),
    ("POST", "/api/openmem/v1/search/memory", {"user_id": "ada", "query": "cat"}),
    ("GET", "/mcp", None),
    ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}),
    ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "nothing"}),
    ("GET", "/v1/models", None),
    ("GET", "/nothing", None),
]


@pytest.mark.parametrize("key", [KEY, "unknown-key", ""])
async def test_every_other_route_is_answered_alike(workers: WorkerGroup, key: str) -> None:
    for method, path, body in OTHERS:
        await both(workers, request(method, path, b"" if body is None else json.dumps(body).encode(), key=key))


ODD_HEADERS = {
    "page of another site": b"Origin: https://evil.example",
    "page that may": b"Origin: https://app.example",
    "header that is named as one of the connection": b"Connection: origin, authorization\r\nOrigin: null",
    "user that is not UTF-8": b"X-Memory-User: J\xf6rg",
    "user twice": b"X-Memory-User: ada\r\nX-Memory-User: eve",
    "session that is unknown": b"Cookie: gateway_session=unknown\r\nX-Gateway-Console: 1",
    "forwarded": b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 127.0.0.1",
    "unknown expectation": b"Expect: miracles",
    "upgrade": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
    "trailer": b"TE: trailers",
    "gzip accepted": b"Accept-Encoding: gzip",
    "page wanted": b"Accept: text/html",
    "range": b"Range: bytes=0-1",
}


@pytest.mark.parametrize("name", ODD_HEADERS)
async def test_odd_headers_are_judged_alike(workers: WorkerGroup, name: str) -> None:
    for path in ("/v1/me", "/", "/ui/", "/v1/gateway/keys"):
        for key in ("key-of-ada-at-acme", ""):
            await both(workers, request("GET", path, key=key, headers=ODD_HEADERS[name]))
    await both(workers, request("OPTIONS", "/v1/turns", key="", headers=ODD_HEADERS[name]))


@pytest.mark.parametrize("changes", [{}])
@pytest.mark.parametrize(
    "raw",
    [
        request("GET", "/v1/gateway/keys", key="", host="evil.example"),
        request("GET", "/v1/gateway/keys", key="", host="localhost"),
        request("GET", "/v1/gateway/keys", key="", host="localhost:81"),
        request("GET", "/v1/gateway/keys", key="", headers=b"Origin: http://evil.example"),
        request("GET", "/v1/gateway/keys", key="", headers=b"Origin: http://localhost"),
        request("GET", "http://evil.example/v1/gateway/keys", key=""),
        b"GET /v1/gateway/keys HTTP/1.0\r\n\r\n",
        b"GET /v1/gateway/keys HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/gateway/keys HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /v1/gateway/keys HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        b"GET /v1/gateway/keys HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ],
)
async def test_without_keys_other_hosts_and_pages_are_refused_through_every_worker(
    workers: WorkerGroup, raw: bytes
) -> None:
    response = await both(workers, raw)
    has_host = b"host:" in raw.lower() or b"HTTP/1.1" in raw
    is_local = b"evil" not in raw and (b"localhost" in raw or not has_host)  # else the address that it came to counts
    assert response[9:10] == (b"2" if is_local else b"4")


BODY = json.dumps({"user": "ada", "filter": {"query": "nothing like it"}, "preview": True}).encode()
CHUNKED = b"Transfer-Encoding: chunked\r\nContent-Type: application/json"
BODIES = {
    "gzip": (
        b"Content-Encoding: gzip\r\nContent-Length: %d" % len(gzip.compress(BODY, mtime=0)),
        gzip.compress(BODY, mtime=0),
    ),
    "gzip in chunks": (
        b"Content-Encoding: gzip\r\n" + CHUNKED,
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(gzip.compress(BODY, mtime=0)), gzip.compress(BODY, mtime=0)),
    ),
    "no gzip": (b"Content-Encoding: gzip\r\nContent-Length: 9", b"not at al"),
    "cut gzip": (b"Content-Encoding: gzip\r\nContent-Length: 20", gzip.compress(BODY, mtime=0)[:20]),
    "zstd": (b"Content-Encoding: zstd\r\nContent-Length: 4", b"abcd"),
    "unknown": (b"Content-Encoding: rot13\r\nContent-Length: 4", b"abcd"),
    "chunks": (CHUNKED, b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"),
    "chunks with a trailer": (CHUNKED, b"%x;a=b\r\n%b\r\n0\r\nX-T: 1\r\n\r\n" % (len(BODY), BODY)),
    "bad chunks": (CHUNKED, b"5\r\n" + BODY[:5] + b"\r\nxyz\r\n"),
    "too large": (b"Content-Length: 99999999", b"{"),
    "empty": (b"Content-Length: 0", b""),
    "expected": (b"Expect: 100-continue\r\nContent-Length: %d" % len(BODY), BODY),
    "negative": (b"Content-Length: -1", b""),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3", b"{}"),
    "length and chunks": (b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("key", [KEY, "unknown-key"])
async def test_bodies_in_every_dress_are_read_alike(workers: WorkerGroup, name: str, key: str) -> None:
    headers, body = BODIES[name]
    head = b"POST /v1/memory/delete HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "
    response = await both(workers, head + key.encode() + b"\r\n" + headers + b"\r\n\r\n" + body)
    if key == KEY and name in ("gzip", "gzip in chunks", "chunks", "chunks with a trailer", "expected"):
        assert b'"count":0' in response, response
    if name == "expected":
        assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_a_connection_carries_requests_for_both(workers: WorkerGroup) -> None:
    chat = json.dumps({"model": "fake-1", "messages": [{"role": "user", "content": "hello"}]}).encode()
    parts = [request("GET", "/v1/gateway/keys"), request("POST", "/v1/chat/completions", chat)] * 3
    pipeline = b"".join(part.replace(b"Connection: close\r\n", b"") for part in parts) + request("GET", "/health")
    response = await exchange(workers[1], pipeline)
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"200"] * 7
    assert response.count(b'"chat.completion"') == 3
    assert response.count(b'"name":"boss"') == 3


async def test_signing_in_at_one_worker_counts_at_all(workers: WorkerGroup) -> None:
    body = json.dumps({"key": KEY}).encode()
    console = b"X-Gateway-Console: 1\r\nSec-Fetch-Site: same-origin"
    raw = request("POST", "/ui/session", body, key="", headers=console)
    connection = await connected(workers[1].url, raw)
    answer = await read_all(connection, 5)
    connection.close()
    token = re.search(rb"(?i)set-cookie: (gateway_session=[^;]+)", answer)
    assert token is not None, answer
    signed_in = console + b"\r\nCookie: " + token[1]
    for path in ("/v1/turns", "/v1/gateway/keys", "/v1/models"):
        assert (await both(workers, request("GET", path, key="", headers=signed_in))).startswith(b"HTTP/1.1 200")
    chat = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello."}]}).encode()
    for worker in workers.all:
        raw = request("POST", "/v1/chat/completions", chat, key="", headers=signed_in)
        assert (await exchange(worker, raw)).startswith(b"HTTP/1.1 200")
    assert b"signed_out" in await exchange(workers[1], request("DELETE", "/ui/session", key="", headers=signed_in))
    assert (await both(workers, request("GET", "/v1/turns", key="", headers=signed_in))).startswith(b"HTTP/1.1 401")


async def test_events_arrive_as_they_happen_and_a_hang_up_ends_them(workers: WorkerGroup) -> None:
    owner, other = workers.all
    headers = {"authorization": f"Bearer {KEY}"}
    async with other.session.get(other.url + "/v1/turns/stream", headers=headers) as response:
        assert await response.content.readline() == b": ping\n"
        await eventually(lambda: owner.metric("gateway_in_flight_requests") == 1)
        await other.chat("hello", headers=headers)
        async with asyncio.timeout(5):
            while not (await response.content.readline()).startswith(b"event: turns"):
                pass
    await eventually(lambda: owner.metric("gateway_in_flight_requests") == 0)


async def test_a_client_that_does_not_read_is_dropped_with_its_subscription(
    workers: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.pipeline.turn_feed._MAX_QUEUED", 1000)
    monkeypatch.setattr("gateway.server.handover._CHECK_EVERY", 0.1)
    owner, other = workers.all
    raw = request("GET", "/v1/turns/stream")
    connection = await connected(other.url, raw, received_bytes=1)
    try:
        await eventually(lambda: owner.metric("gateway_in_flight_requests") == 1)
        headers = {"authorization": f"Bearer {KEY}", "x-memory-session": "s" * 200}
        async with asyncio.timeout(60):
            while owner.metric("gateway_in_flight_requests"):
                await asyncio.gather(*(other.chat("hello", headers=headers) for _ in range(20)))
        await read_all(connection, 10)  # it was closed
    finally:
        connection.close()


async def test_a_stream_ends_when_the_owner_stops(workers: WorkerGroup) -> None:
    owner, other = workers.all
    connection = await connected(other.url, request("GET", "/v1/turns/stream"))
    try:
        await eventually(lambda: owner.metric("gateway_in_flight_requests") == 1)
        await workers.stop(0)
        assert normalized(await read_all(connection, 10)).endswith(b'event: end\ndata: {"reason":"shutdown"}\n\n<end>')
    finally:
        connection.close()


async def test_without_an_owner_requests_wait_for_one(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__enabled=False, auth__keys=KEYS)
    async with running_workers(config, 2) as workers:
        other = workers[1]
        await workers.stop(0)
        waiting = asyncio.create_task(other.get("/v1/gateway/keys", {"authorization": f"Bearer {KEY}"}))
        assert not (await asyncio.wait([waiting], timeout=0.2))[0]
        await workers.start(0)
        assert (await waiting).status == 200


async def test_without_an_owner_requests_are_refused_in_their_own_format(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.handover._PATIENCE", 0.1)
    config = configuration(
        tmp_path, upstream.url, memory__enabled=False, auth__keys=KEYS, server__cors_origins=["https://app.example"]
    )
    async with running_workers(config, 2) as workers:
        other = workers[1]
        await workers.stop(0)
        headers = {"authorization": f"Bearer {KEY}", "origin": "https://app.example"}
        reply = await other.get("/v1/gateway/keys", headers)
        assert (reply.status, reply.error["code"]) == (503, "memory_unavailable")
        assert reply.headers["retry-after"] == "1"
        assert len(reply.headers["x-gateway-request-id"]) == 32
        assert other.metric("gateway_requests_total", face="gateway", status="503") == 1
        assert reply.headers["access-control-allow-origin"] == "https://app.example"
        memos = await other.post("/product/search", {"user_id": "ada", "query": "x"}, headers)
        assert (memos.status, memos.json["code"], memos.json["data"]) == (503, 503, None)
        mcp = await other.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers)
        assert (mcp.status, mcp.json["jsonrpc"]) == (503, "2.0")
        assert (await other.chat("hello", headers=headers)).status == 200
        ready = await other.get("/ready")
        assert (ready.status, ready.json["ready"]) == (200, True)
        assert b"gateway_requests_total" in (await other.get("/metrics")).body


async def test_with_one_worker_nothing_is_handed_over(gateway: Running) -> None:
    assert "workers" not in (await gateway.get("/ready")).json
