"""Keys, rights, users: who is let in, and whose memory it is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.errors import ConfigError
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, hangs

KEYS = [
    {"key": "key-of-acme-1", "tenant": "acme"},
    {"key": "key-of-globex", "tenant": "globex"},
    {"key": "key-of-one-user", "tenant": "acme", "user": "ada"},
    {"key": "key-for-chat-only", "tenant": "acme", "rights": ["chat"]},
    {"key": "key-for-memory-only", "tenant": "acme", "rights": ["memory"]},
]
HI = {"model": "fake-1", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth": {"keys": KEYS}}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer key-of-acme-1"},
        {"authorization": "token key-of-acme-1"},
        {"authorization": "key-of-acme-1"},
        {"x-gateway-key": "key-of-acme-1"},
        {"x-api-key": "key-of-acme-1"},
    ],
)
async def test_a_known_key_is_let_in(gateway: Running, headers: dict[str, str]) -> None:
    assert (await gateway.post(CHAT, HI, headers)).status == 200


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), bearer("key-of-acme-"), {"x-gateway-key": "x"}])
async def test_any_other_key_is_refused(gateway: Running, upstream: FakeUpstream, headers: dict[str, str]) -> None:
    reply = await gateway.post(CHAT, HI, headers)
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    memos = await gateway.post("/product/search", {"user_id": "ada", "query": "x"}, headers)
    assert (memos.status, memos.json["code"], memos.json["data"]) == (401, 401, None)
    assert not upstream.received


async def test_the_gateways_key_never_goes_up(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.post(CHAT, HI, bearer("key-of-acme-1"))
    assert "authorization" not in upstream.last.headers
    await gateway.post(CHAT, HI, {"x-gateway-key": "key-of-acme-1", "authorization": "Bearer sk-of-the-client"})
    assert upstream.last.headers["authorization"] == "Bearer sk-of-the-client"
    await gateway.post(CHAT, HI, {"x-gateway-key": "key-of-acme-1", "authorization": "Bearer key-of-globex"})
    assert "authorization" not in upstream.last.headers
    assert "key-of" not in upstream.prompts()


async def test_tenants_do_not_share_a_user(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("The acme code word is tangerine.", headers=bearer("key-of-acme-1"))
    await gateway.settled()
    await gateway.chat("What is the code word?", headers=bearer("key-of-globex"))
    assert "tangerine" not in upstream.last.body.decode()
    await gateway.chat("What is the code word?", session="x", headers=bearer("key-of-acme-1"))
    assert "tangerine" in upstream.last.body.decode()


async def test_a_pinned_key_stays_with_its_user(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("Bob's secret is marzipan.", user="bob", headers=bearer("key-of-acme-1"))
    await gateway.settled()
    await gateway.chat("What is Bob's secret?", user="bob", headers=bearer("key-of-one-user"))
    assert "marzipan" not in upstream.last.body.decode()
    reply = await gateway.post("/product/search", {"user_id": "bob", "query": "secret"}, bearer("key-of-one-user"))
    assert reply.status == 403


async def test_rights_are_kept_apart(gateway: Running) -> None:
    chat_only = await gateway.post(CHAT, HI, {**bearer("key-for-chat-only"), "x-memory-user": "ada"})
    assert (chat_only.status, chat_only.headers["x-memory-status"]) == (200, "off")
    search = {"user_id": "ada", "query": "x"}
    assert (await gateway.post("/product/search", search, bearer("key-for-chat-only"))).status == 403
    assert (await gateway.post("/product//search", search, bearer("key-for-chat-only"))).status == 403
    assert (await gateway.post("//product/search", search, bearer("key-for-chat-only"))).status == 403
    assert (await gateway.post(CHAT, HI, bearer("key-for-memory-only"))).status == 403
    asked = {"user_id": "ada", "query": "x"}
    assert (await gateway.post("/product/chat", asked, bearer("key-for-memory-only"))).status == 403


@pytest.mark.parametrize("source", [{"user": "carl"}, {"safety_identifier": "carl"}, {"metadata": {"user_id": "carl"}}])
async def test_the_body_may_name_the_user(gateway: Running, upstream: FakeUpstream, source: dict[str, Any]) -> None:
    headers = bearer("key-of-acme-1")
    say = {"model": "fake-1", "messages": [{"role": "user", "content": "I collect stamps of Malta."}], **source}
    await gateway.post(CHAT, say, headers)
    await gateway.settled()
    ask = {"model": "fake-1", "messages": [{"role": "user", "content": "What do I collect?"}]}
    await gateway.post(CHAT, ask, {**headers, "x-memory-user": "carl"})
    assert "Malta" in upstream.last.body.decode()


ODD_USERS = ["a\tb", "x" * 300, "e\u0301", "a\u200bb", "a\u202eb", "bob\n", "👩\u200d💻 dev", " spaced "]


@pytest.mark.parametrize("user", ODD_USERS)
async def test_an_odd_user_in_the_body_has_a_memory_all_the_same(
    gateway: Running, upstream: FakeUpstream, user: str
) -> None:
    headers = bearer("key-of-acme-1")
    said = {"model": "fake-1", "messages": [{"role": "user", "content": "I collect stamps of Malta."}], "user": user}
    assert (await gateway.post(CHAT, said, headers)).status == 200
    await gateway.settled()
    asked = {"model": "fake-1", "messages": [{"role": "user", "content": "Which stamps do I collect?"}]}
    assert (await gateway.post(CHAT, {**asked, "user": user}, headers)).headers["x-memory-status"] == "hit"
    assert "Malta" in upstream.last.body.decode()
    await gateway.post(CHAT, {**asked, "user": f"{user}2"}, headers)
    assert "Malta" not in upstream.last.body.decode()


@pytest.mark.parametrize("user", ["x" * 257, "", "a\u200bb"])
async def test_a_bad_id_in_a_header_of_the_gateway_is_refused(gateway: Running, user: str) -> None:
    reply = await gateway.post(CHAT, HI, {**bearer("key-of-acme-1"), "x-memory-user": user})
    assert (reply.status, reply.error["code"]) == (400, "invalid_id")


async def test_another_cube_is_the_users_own_even_under_another_users_name(
    gateway: Running, upstream: FakeUpstream
) -> None:
    headers = bearer("key-of-acme-1")
    body = {"user_id": "bob", "messages": "Bob hides his gold in Narvik.", "async_mode": "sync"}
    assert (await gateway.post("/product/add", body, headers)).status == 200
    for cubes in ({"mem_cube_id": "bob"}, {"readable_cube_ids": ["bob"]}):
        found = await gateway.post(
            "/product/search", {"user_id": "eve", "query": "gold Narvik", "relativity": 0, **cubes}, headers
        )
        assert "Narvik" not in found.body.decode()
        await gateway.post("/product/chat", {"user_id": "eve", "query": "Where is the gold?", **cubes}, headers)
        assert "Narvik" not in upstream.last.body.decode()


@pytest.mark.parametrize("changes", [{}])
async def test_without_keys_only_local_names_are_served(gateway: Running, upstream: FakeUpstream) -> None:
    reply = await gateway.post(CHAT, HI, {"host": "evil.example"})
    assert reply.status == 403
    assert (await gateway.post(CHAT, HI, {"host": "localhost:1"})).status == 200


def test_without_keys_another_address_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("server: {host: 0.0.0.0}\n")
    with pytest.raises(ConfigError, match=r"auth\.keys is empty"):
        load(path)


@pytest.mark.parametrize("changes", [{"server__cors_origins": ["http://localhost:3000"]}])
async def test_a_browser_may_call_from_a_configured_origin_only(gateway: Running) -> None:
    for origin, allowed in (("http://localhost:3000", True), ("http://evil.example", False)):
        headers = {"origin": origin, "access-control-request-headers": "x-stainless-os"}
        async with gateway.session.options(gateway.url + CHAT, headers=headers) as response:
            assert response.status == 204
            assert (response.headers.get("access-control-allow-origin") == origin) == allowed
            assert ("PATCH" in response.headers.get("access-control-allow-methods", "")) == allowed
            assert ("x-stainless-os" in response.headers.get("access-control-allow-headers", "")) == allowed


async def test_too_many_requests_at_once_are_told_to_come_back(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, limits={"in_flight": 2})) as gateway:
        upstream.script = hangs()
        asked = [asyncio.create_task(gateway.chat("hi")) for _ in range(5)]
        await eventually(lambda: sum(task.done() for task in asked) == 3)
        upstream.release()
        replies = await asyncio.gather(*asked)
    assert sorted(reply.status for reply in replies) == [200, 200, 503, 503, 503]
    assert all(reply.headers["retry-after"] == "1" for reply in replies if reply.status == 503)


@pytest.mark.parametrize("changes", [{"server__cors_origins": ["http://localhost:3000"]}])
async def test_a_browser_may_read_streams_too(gateway: Running) -> None:
    reply = await gateway.chat("hi", stream=True, headers={"origin": "http://localhost:3000"})
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert reply.headers["x-gateway-request-id"]


@pytest.mark.parametrize("changes", [{}])
@pytest.mark.parametrize(
    "name", ["x-memory-user", "x-memory-session", "X-Memory-Mode", "x-gateway-key", "authorization"]
)
async def test_a_header_that_contradicts_itself_is_refused(gateway: Running, name: str) -> None:
    from multidict import CIMultiDict

    values = ("on", "off") if name.lower().endswith("mode") else ("ada", "bob")
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    for path in ("/v1/chat/completions", "/v1/messages"):
        for pair, status in ((values, 400), ((values[0], values[0]), 200)):
            headers = CIMultiDict([(name, value) for value in pair])
            asked = gateway.session.post(gateway.url + path, json={**body, "max_tokens": 9}, headers=headers)
            async with asked as response:
                assert response.status == status, await response.text()
                assert status == 200 or name.lower() in await response.text()
