from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr

from gateway.config import TimeoutsConfig, UpstreamConfig
from gateway.errors import StreamCut, UpstreamFailed, UpstreamTimedOut
from gateway.upstream.client import HttpUpstream, Outgoing, make_session
from tests.fakes.upstream import FakeUpstream, cuts_after, hangs, says

FAST = TimeoutsConfig(connect=0.3, first_byte=0.2, idle=0.2)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    session = make_session()
    yield session
    await session.close()


@pytest.fixture
def client(upstream: FakeUpstream, session: aiohttp.ClientSession) -> HttpUpstream:
    return HttpUpstream(UpstreamConfig(name="up", base_url=upstream.url, timeouts=FAST), session)


def get(path: str, **fields: object) -> Outgoing:
    made = {"method": "GET", "path": path, "query_string": "", "headers": {}, "body": None, **fields}
    return Outgoing(**made)  # type: ignore[arg-type]  # as above


async def test_a_base_url_works_with_and_without_v1(
    client: HttpUpstream, session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    (await client.send(get("/models", query_string="a=%20b"))).close()
    assert (upstream.last.path, upstream.last.query) == ("/v1/models", "a=%20b")
    bare = HttpUpstream(UpstreamConfig(name="up", base_url=upstream.url.removesuffix("/v1")), session)
    (await bare.send(get("/models"))).close()
    assert upstream.last.path == "/v1/models"


async def test_a_large_body_keeps_its_length(client: HttpUpstream, upstream: FakeUpstream) -> None:
    body = bytes(3 * 2**20)
    (await client.send(get("/x", method="POST", body=body))).close()
    assert upstream.last.headers["content-length"] == str(len(body))
    assert upstream.last.body == body


async def test_silence_before_and_after_the_head_is_a_timeout(client: HttpUpstream, upstream: FakeUpstream) -> None:
    upstream.script = hangs()
    with pytest.raises(UpstreamTimedOut):
        await client.send(get("/x"))
    upstream.script = hangs([b"data: x\n\n"])
    incoming = await client.send(get("/x"))
    with pytest.raises(UpstreamTimedOut):
        _ = [chunk async for chunk in incoming.chunks()]
    incoming.close()


async def test_a_broken_answer_is_a_cut(client: HttpUpstream, upstream: FakeUpstream) -> None:
    upstream.script = cuts_after([b"data: x\n\n"])
    incoming = await client.send(get("/x"))
    with pytest.raises(StreamCut):
        _ = [chunk async for chunk in incoming.chunks()]
    incoming.close()


async def test_nobody_there_is_a_failure(session: aiohttp.ClientSession) -> None:
    dead = HttpUpstream(UpstreamConfig(name="dead", base_url="http://127.0.0.1:9"), session)
    with pytest.raises(UpstreamFailed, match="dead cannot be reached"):
        await dead.send(get("/x"))


async def test_redirects_are_answers(client: HttpUpstream, upstream: FakeUpstream) -> None:
    upstream.script = says(302, b"", location="/elsewhere")
    incoming = await client.send(get("/x"))
    assert incoming.status == 302
    incoming.close()
    assert len(upstream.received) == 1


async def test_a_configured_query_cannot_be_overruled(upstream: FakeUpstream) -> None:
    session = make_session()
    query = {"api-version": SecretStr("2026-01-01")}
    asked = HttpUpstream(UpstreamConfig(name="up", base_url=upstream.url, query=query), session)
    incoming = await asked.send(get("/x", query_string="a=1&api%2Dversion=evil&api-version=evil&b="))
    incoming.close()
    await session.close()
    assert upstream.received[-1].query == "a=1&b=&api-version=2026-01-01"
