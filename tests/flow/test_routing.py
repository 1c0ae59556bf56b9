"""Where a request goes, over real sockets: fallbacks, room for long prompts, query, proxy, TLS, addresses by model."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.errors import ConfigError
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, completion, running_upstream, says

CERTIFICATE = Path(__file__).parents[1] / "fakes" / "server.pem"
TOO_LONG = {"error": {"message": "too long", "type": "x", "param": "messages", "code": "context_length_exceeded"}}


@asynccontextmanager
async def gateway_to(folder: Path, upstreams: list[dict[str, Any]], **models: Any) -> AsyncIterator[Running]:
    config = configuration(folder, "http://unused", upstreams=upstreams, models={"default": "m", **models})
    async with running_gateway(config) as running:
        yield running


async def test_a_prompt_that_is_too_long_is_sent_without_memory_and_then_where_there_is_room(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with running_upstream() as larger:
        upstreams = [
            {"name": "small", "base_url": upstream.url, "models": ["small"]},
            {"name": "large", "base_url": larger.url, "models": ["large"]},
        ]
        async with gateway_to(tmp_path, upstreams, fallbacks={"small": ["large"]}) as gateway:
            await gateway.chat("My cat is called Miso.", model="small")
            await gateway.settled()
            upstream.script = says(400, TOO_LONG)
            before = len(upstream.received)
            reply = await gateway.chat("What is my cat called?", session="two", model="small")
            assert (reply.status, reply.headers["x-gateway-upstream"]) == (200, "large")
            tried = [request.body for request in upstream.received[before:]]
            assert [b"Miso" in body for body in tried] == [True, False]
            assert b"Miso" in larger.last.body, "there is room for memory there"
            assert larger.last.json["model"] == "large"
            larger.script = says(400, TOO_LONG)
            refused = await gateway.chat("What is my cat called?", session="three", model="small")
            assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")


async def test_query_and_address_are_made_as_configured(tmp_path: Path, upstream: FakeUpstream) -> None:
    base = upstream.url.removesuffix("/v1") + "/openai/deployments/{model}"
    azure = {
        "name": "azure",
        "base_url": base,
        "query": {"api-version": "2026-05-01"},
        "api_key": "sk-azure",
        "key_header": "api-key",
    }
    upstream.script = says(200, completion("Understood."))
    async with gateway_to(tmp_path, [azure]) as gateway:
        assert (await gateway.chat("hi", model="my model")).status == 200
        assert upstream.last.path == "/openai/deployments/my%20model/chat/completions"
        assert upstream.last.query == "api-version=2026-05-01"
        assert upstream.last.headers["api-key"] == "sk-azure"
        assert "authorization" not in upstream.last.headers
        listed = await gateway.get("/v1/models")
        assert [card["id"] for card in listed.json["data"]] == ["default"]
        missing = await gateway.get("/v1/files")
        assert (missing.status, missing.error["code"]) == (404, "not_found")


async def test_an_upstream_can_be_reached_through_a_proxy(tmp_path: Path, upstream: FakeUpstream) -> None:
    proxy = upstream.url.removesuffix("/v1").replace("http://", "http://user:pass@")
    behind = {"name": "far", "base_url": "http://model.invalid/v1", "proxy": proxy}
    upstream.script = says(200, completion("From afar."))
    async with gateway_to(tmp_path, [behind]) as gateway:
        reply = await gateway.chat("hi")
        assert reply.json["choices"][0]["message"]["content"] == "From afar."
        assert upstream.last.headers["host"] == "model.invalid"
        assert upstream.last.headers["proxy-authorization"].startswith("Basic ")


@asynccontextmanager
async def tls_upstream() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(completion("Safely."))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("tls", "status"), [({"ca_file": str(CERTIFICATE)}, 200), ({"verify": False}, 200), ({}, 502)])
async def test_a_certificate_is_looked_at_as_configured(tmp_path: Path, tls: dict[str, Any], status: int) -> None:
    async with (
        tls_upstream() as url,
        gateway_to(tmp_path, [{"name": "safe", "base_url": url, "tls": tls}]) as gateway,
    ):
        assert (await gateway.chat("hi")).status == status


async def test_files_of_tls_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    upstream = {"name": "safe", "base_url": "https://127.0.0.1:1/v1", "tls": {"ca_file": "not-there.pem"}}
    with pytest.raises(ConfigError, match=r"safe\.tls"):
        async with gateway_to(tmp_path, [upstream]):
            pass


async def test_a_place_is_given_back_when_an_answer_has_ended(tmp_path: Path, upstream: FakeUpstream) -> None:
    one = {"name": "narrow", "base_url": upstream.url, "max_in_flight": 1, "timeouts": {"connect": 1}}
    async with gateway_to(tmp_path, [one]) as gateway:
        for number in range(6):
            reply = await gateway.chat("hi", stream=number % 2 == 0)
            assert reply.status == 200
        upstream.script = says(400, TOO_LONG)
        for _ in range(3):
            assert (await gateway.chat("hi")).status == 400
        assert (await gateway.get("/v1/files/x")).status == 400
        assert (await gateway.get("/v1/files/x")).status == 400


async def test_a_place_is_given_back_when_an_error_breaks_off(tmp_path: Path, upstream: FakeUpstream) -> None:
    async def breaks_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            status=400, headers={"content-length": "1000", "content-type": "application/json"}
        )
        await response.prepare(request)
        await response.write(b'{"error"')
        assert request.transport is not None
        request.transport.close()
        return response

    one = {"name": "narrow", "base_url": upstream.url, "max_in_flight": 1, "timeouts": {"connect": 0.5}}
    async with gateway_to(tmp_path, [one]) as gateway:
        await gateway.chat("My cat is called Miso.")
        await gateway.settled()
        upstream.script = breaks_off
        for _ in range(2):
            assert (await gateway.chat("What is my cat called?", session="two")).status == 502
        upstream.script = None
        assert (await gateway.chat("What is my cat called?", session="three")).status == 200


async def test_a_key_of_ours_does_not_come_back_in_a_good_answer(tmp_path: Path, upstream: FakeUpstream) -> None:
    one = {"name": "up", "base_url": upstream.url, "api_key": "sk-upstream-secret-1"}
    upstream.script = says(200, completion("my key is sk-upstream-secret-1"))
    async with gateway_to(tmp_path, [one]) as gateway:
        assert b"sk-upstream-secret-1" not in (await gateway.chat("hi")).body


async def test_models_of_all_upstreams_are_listed_and_outlast_one_that_is_down(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: dict[str, Any] = {"name": "dead", "base_url": "http://127.0.0.1:9/v1", "models": ["named", "pattern-*"]}
    async with running_upstream() as other:
        other.script = says(200, {"object": "list", "data": [{"id": "other-1", "owned_by": "o"}]})
        several: list[dict[str, Any]] = [
            {"name": "a", "base_url": upstream.url},
            {"name": "b", "base_url": other.url},
            dead,
        ]
        async with gateway_to(tmp_path, several) as gateway:
            for _ in range(2):
                listed = (await gateway.get("/v1/models")).json["data"]
                assert [card["id"] for card in listed] == ["fake-1", "other-1", "named", "default"]
            assert (len(upstream.received), len(other.received)) == (1, 1), "a minute old at most"
            monkeypatch.setattr("gateway.api.models._FRESH", 0.0)
            other.script = says(503, {"error": {"message": "down"}})
            listed = (await gateway.get("/v1/models")).json["data"]
            assert [card["id"] for card in listed] == ["fake-1", "other-1", "named", "default"], (
                "the last that is known"
            )
