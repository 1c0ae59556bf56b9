from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.upstream import detect as module
from gateway.upstream.detect import detect
from tests.fakes.upstream import FakeUpstream, says


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture(autouse=True)
def local(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> int:
    port = urlsplit(upstream.url).port
    assert port is not None
    monkeypatch.setattr(module, "_LOCAL", {"nobody": 9, "ollama": port})
    return port


async def test_a_key_means_openai(session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    found = await detect(session, 1)
    assert found.upstream.base_url == "https://api.openai.com/v1"
    assert found.default_model is None


async def test_a_local_server_comes_next_with_its_first_chat_model(
    session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    upstream.script = says(200, {"data": [{"id": "nomic-embed"}, {"id": "llama3"}]})
    found = await detect(session, 1)
    assert (found.upstream.name, found.default_model) == ("ollama", "llama3")
    assert "answers on port" in found.reason


@pytest.mark.parametrize(
    "script",
    [
        says(404, b""),
        says(200, b"<html>"),
        says(200, {"data": []}),
        says(200, {"data": [{"id": "m"}]}, **{"x-gateway-request-id": "1"}),
    ],
)
async def test_what_is_no_model_server_is_passed_over(
    session: aiohttp.ClientSession, upstream: FakeUpstream, script: object
) -> None:
    upstream.script = script  # type: ignore[assignment]  # one of the scripts above
    found = await detect(session, 1)
    assert found.upstream.kind == "offline"


async def test_our_own_port_is_not_asked(session: aiohttp.ClientSession, upstream: FakeUpstream, local: int) -> None:
    assert (await detect(session, local)).upstream.kind == "offline"
    assert not upstream.received
