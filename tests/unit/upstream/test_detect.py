from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.errors import ConfigError
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
    assert found.upstreams[0].base_url == "https://api.openai.com/v1"
    assert found.default_model is None


async def test_a_local_server_comes_next_with_its_first_chat_model(
    session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    upstream.script = says(200, {"data": [{"id": "nomic-embed"}, {"id": "llama3"}]})
    found = await detect(session, 1)
    assert (found.upstreams[0].name, found.default_model) == ("ollama", "llama3")
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
    assert found.upstreams[0].kind == "offline"


async def test_our_own_port_is_not_asked(session: aiohttp.ClientSession, upstream: FakeUpstream, local: int) -> None:
    assert (await detect(session, local)).upstreams[0].kind == "offline"
    assert not upstream.received


async def test_memos_list_of_chat_models_comes_first(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv(
        "CHAT_MODEL_LIST",
        '[{"backend": "openai", "api_base": "http://a/v1", "api_key": "sk-a", "support_models": ["qwen-*", "q"]},'
        ' {"api_base": "http://b/v1", "model_name_or_path": "llama"}]',
    )
    found = await detect(session, 1)
    assert [(one.base_url, one.models) for one in found.upstreams] == [
        ("http://a/v1", ("qwen-*", "q")),
        ("http://b/v1", ("llama",)),
    ]
    assert found.upstreams[0].api_key is not None
    for broken in ("{", '["x"]', "7"):
        monkeypatch.setenv("CHAT_MODEL_LIST", broken)
        with pytest.raises(ConfigError, match="CHAT_MODEL_LIST"):
            await detect(session, 1)
