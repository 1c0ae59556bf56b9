"""Bad input and bad upstreams: each a clear error in the caller's own format."""

import asyncio

import pytest

from tests.fakes.running import Running
from tests.fakes.upstream import DONE, FakeUpstream, chunk, cuts_after, deltas, hangs, says, streams

CHAT = "/v1/chat/completions"
HI = {"model": "fake-1", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{broken", None),
        (b"", None),
        (b"[1]", None),
        (b'{"messages": []}', "model"),
        (b'{"model": "fake-1"}', "messages"),
        (b'{"model": "fake-1", "messages": []}', "messages"),
        (b'{"model": "fake-1", "messages": "hi"}', "messages"),
        (b'{"model": "fake-1", "messages": [1]}', "messages[0]"),
        (b'{"model": "fake-1", "messages": [{"role": 1}]}', "messages[0].role"),
        (b'{"model": "fake-1", "messages": [{"role": "user", "content": 7}]}', "messages[0].content"),
        (b'{"model": "fake-1", "stream": "yes", "messages": [{"role": "user", "content": "a"}]}', "stream"),
        (b'{"model": "fake-1", "messages": [{"role": "user", "content": "\\x00"}]}', None),
        (b'{"model":"fake-1","x":' + b"[" * 100 + b"]" * 100 + b',"messages":[{"role":"user","content":"a"}]}', None),
    ],
)
async def test_bad_bodies_are_named(gateway: Running, upstream: FakeUpstream, raw: bytes, param: str | None) -> None:
    reply = await gateway.post(CHAT, None, raw=raw)
    assert reply.status == 400
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] == param
    assert not upstream.received


async def test_a_body_of_40_mib_is_refused(gateway: Running) -> None:
    reply = await gateway.post(CHAT, None, raw=b'{"x":"' + b"a" * (40 * 2**20) + b'"}')
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


async def test_12_mib_pass(gateway: Running, upstream: FakeUpstream) -> None:
    reply = await gateway.chat("hi", image="A" * 12 * 2**20)
    assert reply.status == 200
    assert len(upstream.last.body) > 12 * 2**20


async def test_an_unknown_content_encoding_is_refused(gateway: Running) -> None:
    reply = await gateway.post(CHAT, None, {"content-encoding": "zstd"}, raw=b"(\xb5/\xfd")
    assert reply.status == 415


async def test_a_damaged_gzip_body_is_a_bad_request(gateway: Running) -> None:
    reply = await gateway.post(CHAT, None, {"content-encoding": "gzip"}, raw=b"\x1f\x8bnonsense")
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "changes", [{"upstreams": [{"name": "a", "base_url": "http://127.0.0.1:9", "models": ["x-*"]}]}]
)
async def test_an_unknown_model_is_not_found(gateway: Running) -> None:
    reply = await gateway.post(CHAT, HI)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize("changes", [{"upstreams": [{"name": "dead", "base_url": "http://127.0.0.1:9"}]}])
async def test_an_unreachable_upstream_is_a_bad_gateway(gateway: Running) -> None:
    reply = await gateway.post(CHAT, HI)
    assert (reply.status, reply.error["type"]) == (502, "upstream_error")
    assert "127.0.0.1" not in reply.error["message"]


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_errors_of_the_upstream_pass_verbatim(gateway: Running, upstream: FakeUpstream, status: int) -> None:
    body = {"error": {"message": "no", "type": "t", "param": None, "code": "context_length"}, "extra": 1}
    upstream.script = says(status, body, **{"retry-after": "7", "x-should-retry": "false"})
    reply = await gateway.post(CHAT, HI)
    assert (reply.status, reply.json) == (status, body)
    assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("7", "false")
    assert len(upstream.received) == 1


@pytest.mark.parametrize(("status", "expected"), [(502, 502), (200, 502), (404, 404)])
async def test_html_of_the_upstream_is_wrapped(
    gateway: Running, upstream: FakeUpstream, status: int, expected: int
) -> None:
    upstream.script = says(status, b"<html><h1>Bad gateway</h1></html>", "text/html")
    reply = await gateway.post(CHAT, HI)
    assert reply.status == expected
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.error["type"] == "upstream_error"


async def test_a_redirect_is_not_followed(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(307, b"", location=f"{upstream.url}/elsewhere")
    reply = await gateway.post(CHAT, HI)
    assert reply.status == 502
    assert len(upstream.received) == 1


async def test_a_cut_stream_ends_with_an_error_event_and_no_done(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = cuts_after([chunk({"content": "The secret is"})])
    body = {**HI, "stream": True}
    received = await gateway.broken_off(body)
    assert b'"code":"stream_interrupted"' in received
    assert b"[DONE]" not in received


@pytest.mark.parametrize("pieces", [[], [b": ping\n\n"], [chunk({"content": "half"})]])
async def test_a_stream_that_ends_early_is_not_passed_off_as_whole(
    gateway: Running, upstream: FakeUpstream, pieces: list[bytes]
) -> None:
    upstream.script = streams(pieces)
    received = await gateway.broken_off({**HI, "stream": True})
    assert b'"type":"upstream_error"' in received
    assert b"[DONE]" not in received


async def test_a_cut_stream_is_not_remembered_as_whole(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = cuts_after([chunk({"content": "Atlantis lies in the Azores"})])
    with pytest.raises(Exception, match=r"(?i)payload|closed|disconnect"):
        await gateway.chat("Where does Atlantis lie?", session="one", stream=True)
    await gateway.settled()
    found = await gateway.post("/product/search", {"user_id": "ada", "query": "Atlantis", "relativity": 0})
    assert "Where does Atlantis lie?" in found.body.decode()
    assert "Azores" not in found.body.decode()


async def test_an_error_event_of_the_upstream_passes_and_is_no_answer(gateway: Running, upstream: FakeUpstream) -> None:
    pieces = [chunk({"content": "Half"}), b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n']
    upstream.script = streams(pieces)
    received = await gateway.broken_off({**HI, "stream": True})
    assert received == b"".join(pieces)


FAST = {"connect": 0.5, "first_byte": 0.3, "idle": 0.3}


@pytest.fixture
def impatient(upstream: FakeUpstream) -> dict[str, object]:
    return {"upstreams": [{"name": "slow", "base_url": upstream.url, "timeouts": FAST}]}


class TestTimeOuts:
    @pytest.fixture
    def changes(self, impatient: dict[str, object]) -> dict[str, object]:
        return impatient

    async def test_a_silent_upstream_times_out(self, gateway: Running, upstream: FakeUpstream) -> None:
        upstream.script = hangs()
        reply = await gateway.post(CHAT, HI)
        assert (reply.status, reply.error["type"]) == (504, "timeout")

    async def test_a_stream_that_falls_silent_is_cut(self, gateway: Running, upstream: FakeUpstream) -> None:
        upstream.script = hangs([chunk({"content": "and then"})])
        received = await gateway.broken_off({**HI, "stream": True})
        assert b'"code":"upstream_timeout"' in received

    async def test_a_slow_but_steady_stream_is_no_silence(self, gateway: Running, upstream: FakeUpstream) -> None:
        pieces = [*deltas("a b c d e f"), DONE]
        upstream.script = streams(pieces, pause=0.12)
        assert (await gateway.chat("hi", stream=True)).body == b"".join(pieces)


async def test_the_context_window_of_the_model_is_tried_without_memory(
    gateway: Running, upstream: FakeUpstream
) -> None:
    await gateway.chat("My cat is called Miso.", session="one")
    await gateway.settled()
    error = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    refuse = says(400, error)

    async def script(request: object) -> object:
        return await (refuse if b"user_memory" in upstream.last.body else upstream.default)(request)  # type: ignore[arg-type]  # aiohttp's request either way

    upstream.script = script  # type: ignore[assignment]  # the fake takes any handler
    for stream in (False, True):
        reply = await gateway.chat("Name of my cat?", session=f"two {stream}", stream=stream)
        assert reply.status == 200
        assert b"user_memory" not in upstream.last.body
        told = {name: value for name, value in reply.headers.items() if name.startswith("x-memory")}
        assert told == {"x-memory-status": "degraded", "x-memory-count": "0", "x-memory-tokens": "0"}
        explained = (await gateway.get(f"/v1/memory/explain/{reply.headers['x-gateway-request-id']}")).json
        assert (explained["injected"]["count"], explained["injected"]["text"]) == (0, "")
        assert (explained["status"], explained["reason"]) == ("degraded", "context")
        assert "too long for the model" in [one["outcome"] for one in explained["candidates"]]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n", 400),
    ],
)
async def test_broken_http_gets_a_json_error(gateway: Running, raw: bytes, status: int) -> None:
    port = int(gateway.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 %d" % status) or answer.startswith(b"HTTP/1.0 %d" % status)
    assert b'{"error":{' in answer


@pytest.mark.parametrize("path", ["/nowhere", "/product/nowhere", "/v1/messages/../../nowhere"])
async def test_unknown_paths_are_not_found_in_the_callers_format(gateway: Running, path: str) -> None:
    reply = await gateway.get(path)
    assert reply.status == 404
    assert ("error" in reply.json) or reply.json["code"] == 404


@pytest.mark.parametrize("body", [b'{"choices": [}', b'{"id": 1,, "choices": []}', b'{"a": 1}}', b"{]", b'{"a": tru}'])
async def test_a_plain_answer_whose_json_is_broken_is_no_answer(
    gateway: Running, upstream: FakeUpstream, body: bytes
) -> None:
    upstream.script = says(200, body, "application/json")
    reply = await gateway.post(CHAT, HI)
    assert (reply.status, reply.error["type"]) == (502, "upstream_error")


@pytest.mark.parametrize("body", [b'{"a": NaN}', b'{"a": "\\ud83d"}', b'\xef\xbb\xbf{"a": 1}', b'{"a": "\xff"}'])
async def test_what_lenient_readers_take_for_json_passes(gateway: Running, upstream: FakeUpstream, body: bytes) -> None:
    upstream.script = says(200, body, "application/json")
    reply = await gateway.post(CHAT, HI)
    assert (reply.status, reply.body) == (200, body)
