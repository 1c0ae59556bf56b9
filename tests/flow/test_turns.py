"""The latest turns over HTTP: as a list and as a stream, for those who may see them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.pipeline import turn_feed
from tests.fakes.raw import connected
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, completion, cuts_after, hangs, says, streams

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-admin", "name": "boss", "tenant": "acme", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-app", "name": "app", "tenant": "acme"},
    {"key": "key-of-ada", "tenant": "acme", "user": "ada"},
    {"key": "key-of-bob", "tenant": "acme", "user": "bob"},
    {"key": "key-of-chat", "tenant": "acme", "user": "ada", "rights": ["chat"]},
    {"key": "key-of-other", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]
PATH = "/v1/turns"


def key(name: str) -> dict[str, str]:
    return {"x-gateway-key": f"key-of-{name}"}


async def turns(gateway: Running, query: str = "", headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    await gateway.finished()
    reply = await gateway.get(PATH + query, headers)
    assert reply.status == 200, reply.body
    entries: list[dict[str, Any]] = reply.json["data"]
    return entries


class Stream:
    """What a client of the stream received so far."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.turns: list[dict[str, Any]] = []
        self.ids: list[int] = []
        self.end = ""

    async def read(self) -> None:
        event = ""
        async for line in self.response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                self.ids.append(int(value))
            elif name == "event":
                event = value
            elif name == "data" and event == "turns":
                self.turns += orjson.loads(value)
            elif name == "data":
                self.end = orjson.loads(value)["reason"]


@asynccontextmanager
async def streaming(gateway: Running, query: str = "", headers: dict[str, str] | None = None) -> AsyncIterator[Stream]:
    async with gateway.session.get(f"{gateway.url}{PATH}/stream{query}", headers=headers) as response:
        assert response.status == 200, await response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        reading = asyncio.create_task(stream.read())
        try:
            yield stream
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading


async def test_a_chat_is_listed_with_its_memory_tokens_and_times(gateway: Running) -> None:
    await gateway.chat("My cat is called Miso.", session="one")
    await gateway.settled()
    reply = await gateway.chat("What is my cat called?", session="two")
    latest, first = await turns(gateway)
    assert latest["id"] == reply.headers["x-gateway-request-id"]
    assert latest["seq"] == first["seq"] + 1
    told = {name: latest[name] for name in ("user", "session", "path", "model", "upstream", "upstream_model", "status")}
    assert told == {
        "user": "ada",
        "session": "two",
        "path": "/v1/chat/completions",
        "model": "fake-1",
        "upstream": "fake",
        "upstream_model": "fake-1",
        "status": 200,
    }
    assert (latest["outcome"], latest["memory"], latest["error"]) == ("complete", "hit", None)
    assert latest["memories"] == int(reply.headers["x-memory-count"]) > 0
    assert latest["block_tokens"] == int(reply.headers["x-memory-tokens"])
    assert (latest["prompt_tokens"], latest["completion_tokens"], latest["is_estimated"]) == (7, 5, False)
    assert latest["ms"] >= latest["overhead_ms"] + latest["first_byte_ms"] > latest["first_byte_ms"] > 0
    assert f"{latest['overhead_ms']:.2f}" == reply.headers["x-gateway-overhead-ms"]
    assert latest["query"] == "What is my cat called?"
    assert (await turns(gateway, "?memory=hit")) == [latest]
    assert (await turns(gateway, "?q=CALLED%20miso")) == [first]


async def test_tokens_that_nobody_reports_and_costs_are_in_the_list(tmp_path: Path, upstream: FakeUpstream) -> None:
    silent = completion("Understood, and noted.")
    del silent["usage"]
    upstream.script = says(200, silent)
    prices = {"fake-*": {"prompt": 1_000_000, "completion": 0}}
    async with running_gateway(configuration(tmp_path, upstream.url, usage__prices=prices)) as gateway:
        await gateway.chat("How are you?")
        (turn,) = await turns(gateway)
    assert (turn["is_estimated"], turn["cost"]) == (True, turn["prompt_tokens"])
    assert turn["prompt_tokens"] > 3 < turn["completion_tokens"]


async def test_every_way_of_asking_is_a_turn(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("hi", stream=True)
    await gateway.post("/v1/completions", {"model": "fake-1", "prompt": "hi"})
    await gateway.chat("hi", headers={"x-memory-mode": "off"})
    await gateway.post("/product/chat/complete", {"user_id": "bob", "query": "hi"})
    asked = {(turn["path"], turn["user"], turn["memory"], turn["is_stream"]) for turn in await turns(gateway)}
    assert asked == {
        ("/v1/chat/completions", "ada", "miss", True),
        ("/v1/completions", None, "off", False),
        ("/v1/chat/completions", "ada", "off", False),
        ("/product/chat/complete", "bob", "miss", False),
    }


async def test_failures_are_turns_with_their_status_and_error(gateway: Running, upstream: FakeUpstream) -> None:
    async def last() -> tuple[Any, ...]:
        turn = (await turns(gateway))[0]
        return turn["status"], turn["outcome"], turn["error"], turn["upstream"]

    await gateway.chat("hi", model="upstream-of-nobody/none")
    assert await last() == (200, "complete", None, "fake")  # the only upstream serves every model
    upstream.script = says(400, {"error": {"message": "too bad"}})
    await gateway.chat("hi")
    assert await last() == (400, "refused", None, "fake")
    upstream.script = cuts_after([chunk({"content": "Hel"})])
    await gateway.broken_off({"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    assert await last() == (200, "cut", "upstream_error/stream_interrupted", "fake")


async def test_what_no_upstream_answers_is_a_turn(tmp_path: Path) -> None:
    upstreams = [{"name": "away", "base_url": "http://127.0.0.1:9/v1", "models": ["only"]}]
    config = configuration(tmp_path, "http://127.0.0.1:9/v1", upstreams=upstreams)
    async with running_gateway(config) as gateway:
        await gateway.chat("hi", model="only")
        await gateway.chat("hi", model="another")
        unknown, failed = await turns(gateway)
    assert (failed["status"], failed["outcome"], failed["error"]) == (502, "refused", "upstream_error")
    assert (failed["upstream"], failed["upstream_model"]) == ("away", "only")
    assert (unknown["status"], unknown["error"]) == (404, "invalid_request_error/model_not_found")
    assert (unknown["upstream"], unknown["first_byte_ms"]) == ("", None)


async def test_a_client_that_leaves_ends_its_turn(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = hangs()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await gateway.chat("hi")

    async def is_listed() -> bool:
        return [turn["outcome"] for turn in await turns(gateway)] == ["client_gone"]

    await eventually(is_listed, 10)
    assert (await turns(gateway))[0]["status"] == 0
    upstream.release()


async def test_new_turns_are_streamed(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("before")
    async with streaming(gateway) as everything, streaming(gateway, "?user=bob") as of_bob:
        for user in ("ada", "bob"):
            await gateway.chat("hi", user=user)
        await eventually(lambda: len(everything.turns) == 2 and len(of_bob.turns) == 1)
        assert [turn["user"] for turn in everything.turns] == ["ada", "bob"]
        assert of_bob.turns == everything.turns[1:]
        assert everything.turns[::-1] == (await turns(gateway))[:2]


async def test_a_reader_goes_on_where_it_stopped(gateway: Running) -> None:
    for _ in range(3):
        await gateway.chat("hi")
    third, second, first = await turns(gateway)
    async with streaming(gateway, f"?after={first['seq']}") as stream:
        await eventually(lambda: len(stream.turns) == 2)
        await gateway.chat("again")
        await eventually(lambda: len(stream.turns) == 3)
        assert stream.turns[:2] == [second, third]
        assert stream.ids == [third["seq"], third["seq"] + 1]
    async with streaming(gateway, headers={"last-event-id": str(third["seq"])}) as stream:
        await eventually(lambda: len(stream.turns) == 1)


async def test_a_stop_ends_streams_at_once(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, server__shutdown_timeout=30)
    async with running_gateway(config) as gateway, streaming(gateway) as stream:
        began = time.monotonic()
        await gateway.gateway.stop()
        assert time.monotonic() - began < 10
        await eventually(lambda: stream.end == "shutdown")


async def test_a_stream_ends_with_the_session_it_was_asked_for_in(tmp_path: Path, upstream: FakeUpstream) -> None:
    console = {"x-gateway-console": "1", "sec-fetch-site": "same-origin"}
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        signed_in = await gateway.post("/ui/session", {"key": "key-of-admin"}, console)
        own = {**console, "cookie": signed_in.headers["set-cookie"].partition(";")[0]}
        async with streaming(gateway, headers=own) as stream, streaming(gateway, headers=key("admin")) as other:
            await gateway.chat("hi", headers=key("app"))
            await eventually(lambda: len(stream.turns) == 1)
            async with gateway.session.delete(f"{gateway.url}/ui/session", headers=own) as response:
                assert response.status == 200
            await gateway.chat("hi", headers=key("app"))
            await eventually(lambda: stream.end == "signed_out" and len(other.turns) == 2)
            assert len(stream.turns) == 1


async def test_the_number_of_readers_is_limited(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, console__subscribers=2, auth__keys=KEYS)
    async with running_gateway(config) as gateway:
        async with streaming(gateway, headers=key("ada")):
            refused = await gateway.get(f"{PATH}/stream", key("ada"))  # one key of a user does not take all places
            assert (refused.status, refused.error["code"]) == (429, "too_many_requests")
            async with streaming(gateway, headers=key("admin")):
                assert (await gateway.get(f"{PATH}/stream", key("other"))).status == 429

        async def is_free() -> bool:
            async with gateway.session.get(f"{gateway.url}{PATH}/stream", headers=key("other")) as response:
                return response.status == 200

        await eventually(is_free)


async def test_a_reader_that_does_not_read_is_dropped(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_feed, "_MAX_QUEUED", 0)
    head = f"GET {PATH}/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    stalled = await connected(gateway.url, head, received_bytes=2048)
    async with streaming(gateway) as stream:
        await gateway.chat("hi")
        await eventually(lambda: stream.end == "slow")
    assert (await gateway.chat("hi")).status == 200
    stalled.close()


async def test_a_reader_that_is_stuck_does_not_delay_a_stop(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, server__shutdown_timeout=30)
    async with running_gateway(config) as gateway:
        long = {"x-memory-mode": "off"}
        await asyncio.gather(*(gateway.chat("字" * 4000, user="u" * 200, headers=long) for _ in range(400)))
        await gateway.finished()
        head = f"GET {PATH}/stream?after=1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
        stalled = await connected(gateway.url, head, received_bytes=2048)
        await eventually(lambda: gateway.metric("gateway_in_flight_requests") == 1)
        began = time.monotonic()
        await gateway.gateway.stop()
        assert time.monotonic() - began < 10
        stalled.close()


async def test_only_who_may_see_turns_sees_them(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        async with contextlib.AsyncExitStack() as stack:
            names = ("admin", "ada", "bob", "other")
            read = {name: await stack.enter_async_context(streaming(gateway, headers=key(name))) for name in names}
            for name, user in (("app", "ada"), ("app", "bob"), ("app", "eve"), ("other", "ada")):
                await gateway.chat("hi", user=user, headers=key(name))
            expected = {"admin": ["ada", "bob", "eve"], "ada": ["ada"], "bob": ["bob"], "other": ["ada"]}
            await eventually(lambda: all(len(read[name].turns) == len(expected[name]) for name in names))
            for name in names:
                listed = await turns(gateway, headers=key(name))
                assert [turn["user"] for turn in listed][::-1] == expected[name]
                assert read[name].turns == listed[::-1]
                assert all("query" not in turn for turn in listed)
                counts = (await gateway.get(PATH, key(name))).json["counts"]
                assert counts["user"] == dict.fromkeys(expected[name], 1)
            foreign = (await gateway.get(f"{PATH}?user=eve", key("ada"))).json
            unknown = (await gateway.get(f"{PATH}?user=nobody", key("ada"))).json
            assert foreign == unknown
        for path in (PATH, f"{PATH}/stream"):
            status = {name: (await gateway.get(path, key(name))).status for name in ("app", "chat", "nobody")}
            assert status == {"app": 403, "chat": 403, "nobody": 401}


async def test_a_forgotten_user_is_in_no_turn(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        for name, user in (("app", "ada"), ("app", "bob"), ("other", "ada")):
            await gateway.chat("hi", user=user, headers=key(name) | {"x-memory-mode": "off"})
        await gateway.finished()
        assert (await gateway.post("/v1/memory/forget", {"user": "ada"}, key("admin"))).status == 200
        assert [turn["user"] for turn in await turns(gateway, headers=key("admin"))] == ["bob"]
        assert len(await turns(gateway, headers=key("other"))) == 1
        purge = {"everything": True, "purge": True}
        assert (await gateway.post("/v1/memory/forget", purge, key("other"))).status == 200
        assert await turns(gateway, headers=key("other")) == []
        assert len(await turns(gateway, headers=key("admin"))) == 1


@pytest.mark.parametrize("content", [True, False])
async def test_content_is_shown_as_configured(tmp_path: Path, upstream: FakeUpstream, content: bool) -> None:
    config = configuration(tmp_path, upstream.url, console__content=content, auth__keys=KEYS)
    async with running_gateway(config) as gateway:
        await gateway.chat("My secret is marzipan.", user="ada", headers=key("app"))
        await gateway.finished()
        for name in ("admin", "ada"):
            assert (b"marzipan" in (await gateway.get(PATH, key(name))).body) is content
            assert bool(await turns(gateway, "?q=marzipan", key(name))) is content


@pytest.mark.parametrize("changes", [{"console__enabled": False}])
async def test_turns_can_be_switched_off(gateway: Running) -> None:
    await gateway.chat("hi")
    for path in (PATH, f"{PATH}/stream"):
        reply = await gateway.get(path)
        assert (reply.status, "console.enabled" in reply.error["message"]) == (404, True)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=٣", "limit"),
        ("before=-1", "before"),
        ("after=1e9", "after"),
        ("after=99999999999999999999", "after"),
        ("memory=maybe", "memory"),
        ("user=" + "u" * 300, "user"),
        ("q=" + "q" * 300, "q"),
    ],
)
async def test_a_condition_that_cannot_be_used_is_refused(gateway: Running, query: str, parameter: str) -> None:
    reply = await gateway.get(f"{PATH}?{query}")
    assert (reply.status, reply.error["param"]) == (400, parameter)


async def test_other_methods_are_refused_and_pages_of_other_sites_too(gateway: Running, upstream: FakeUpstream) -> None:
    assert (await gateway.post(f"{PATH}/more", {})).status == 404
    for path in (PATH, f"{PATH}/stream"):
        async with gateway.session.head(gateway.url + path) as response:
            assert response.status == 405
        assert (await gateway.post(path, {})).status == 405
        assert (await gateway.get(path, {"origin": "https://evil.example"})).status == 403
    for path in ("/v1/memory", "/v1/me", "/v1/turns/x", "/v1/gateway/x", "/mcp/x"):  # no upstream gets them
        assert (await gateway.post(path, {})).status in (400, 404, 405), path
        async with gateway.session.put(gateway.url + path) as response:
            assert response.status in (404, 405), path
    assert not upstream.received


async def test_a_stream_of_chats_is_complete(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = streams([chunk({"content": "Hi"}), chunk({}, "stop"), DONE])
    async with streaming(gateway) as stream:
        await asyncio.gather(*(gateway.chat("hi", user=f"u{number}", stream=True) for number in range(50)))
        await eventually(lambda: len(stream.turns) == 50, 20)
        assert sorted(turn["seq"] for turn in stream.turns) == [turn["seq"] for turn in stream.turns]
        assert {turn["user"] for turn in stream.turns} == {f"u{number}" for number in range(50)}
