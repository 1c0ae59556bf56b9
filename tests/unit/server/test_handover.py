"""Tests of handing requests over to an owner that is a script on a real socket."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.formats.errors import openai_error_body
from gateway.server.apis import Answerer, Api, Apis
from gateway.server.handover import Handover
from tests.fakes.raw import connected
from tests.fakes.running import eventually

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _answer_here(request: web.Request) -> web.Response:
    return web.Response(text="here")


@asynccontextmanager
async def worker(
    script: Script | None, events: list[str] | None = None
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """The URL of a worker whose owner is the script (None: there is none). `events` gets `left` after each request."""

    @web.middleware
    async def note_end(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            if events is not None:
                events.append("left")

    apis = Apis(
        [
            Api(
                name="rest",
                routes=[web.route("*", "/{tail:.*}", _answer_here)],
                write_error=lambda error: openai_error_body(error.message, error.type, error.code, error.param),
                answerers={"/here": Answerer.WORKER, "/either": Answerer.OWNER_OR_WORKER},
            )
        ]
    )
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        path = str(Path(folder) / "owner")
        app = web.Application(middlewares=[note_end, Handover(path, apis).middleware])
        app.add_routes(apis.routes())
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert script is not None
            try:
                await script(reader, writer)
            finally:
                writer.close()

        server = None if script is None else await asyncio.start_unix_server(serve, path)
        try:
            async with aiohttp.ClientSession() as session:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}", session
        finally:
            if server is not None:
                server.close()
            await runner.cleanup()


def answering(*pieces: bytes) -> Script:
    """An owner that reads the head of a request, sends these bytes and hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
        b"Content-Length: 10\r\n\r\nhello",
    ],
)
async def test_an_answer_that_breaks_off_breaks_off_for_the_client(rest: bytes) -> None:
    async with worker(answering(HEAD + rest)) as (url, session), session.get(url + "/x") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"nonsense\r\n\r\n", b"x" * 2**20])
async def test_no_answer_is_an_error_in_the_format_of_the_caller(answer: bytes) -> None:
    async with worker(answering(answer)) as (url, session), session.get(url + "/x") as response:
        assert response.status == 503
        assert response.headers["retry-after"] == "1"
        assert (await response.json())["error"]["code"] == "memory_unavailable"


async def test_without_an_owner_only_some_paths_are_answered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.handover._PATIENCE", 0.1)
    async with worker(None) as (url, session):
        for path, status in (("/here", 200), ("/either", 200), ("//either", 200), ("/x", 503)):
            async with session.get(url + path) as response:
                assert response.status == status, path


async def test_the_owner_is_preferred_where_both_could_answer() -> None:
    script = answering(HEAD + b"Content-Length: 5\r\n\r\nowner")
    async with worker(script) as (url, session):
        for path, text in (("/here", "here"), ("/either", "owner"), ("/x", "owner")):
            async with session.get(url + path) as response:
                assert await response.text() == text


async def test_headers_and_target_arrive_byte_for_byte() -> None:
    received = bytearray()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD + b"Content-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")

    async with worker(script) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            b"GET /%7Ea//b%2fc?q=%C3%A9&q=+ HTTP/1.1\r\nhOsT: example\r\nX-Memory-User: J\xf6rg\r\nTE: x\r\n"
            b"X-Twice: 1\r\nX-Twice: 2\r\nConnection: x-twice\r\nKeep-Alive: 5\r\n\r\n"
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert bytes(received) == (
        b"GET /%7Ea//b%2fc?q=%C3%A9&q=+ HTTP/1.1\r\nhOsT: example\r\nX-Memory-User: J\xf6rg\r\n"
        b"X-Twice: 1\r\nX-Twice: 2\r\n\r\n"
    )
    assert b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n" in answer


async def test_a_hang_up_of_the_client_reaches_the_owner() -> None:
    events: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        events.append("asked")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        events.append("hung up")
        writer.close()

    async with worker(script) as (url, session):
        asking = asyncio.create_task(session.get(url + "/x"))
        await eventually(lambda: events == ["asked"])
        asking.cancel()
        await eventually(lambda: events == ["asked", "hung up"])


async def test_bodies_pass_in_both_directions_at_the_same_time() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readline(), 16):
            piece = await reader.readexactly(size)
            await reader.readline()
            writer.write(b"%x\r\n%b\r\n" % (size, piece.upper()))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    turn = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"piece %d " % number
            await turn.wait()
            turn.clear()

    async with worker(script) as (url, session), session.post(url + "/x", data=body()) as response:
        for number in range(20):
            assert await response.content.readexactly(len(b"piece %d " % number)) == b"PIECE %d " % number
            turn.set()
        assert await response.read() == b""


async def test_a_client_that_does_not_read_is_left_when_the_owner_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.handover._CHECK_EVERY", 0.05)
    stop, events = asyncio.Event(), list[str]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        events.append("asked")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 2**30 + b"x" * 2**24)
        await stop.wait()
        writer.transport.abort()

    async with worker(script, events) as (url, _):
        connection = await connected(url, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", received_bytes=1)
        try:
            await eventually(lambda: events == ["asked"])
            stop.set()
            await eventually(lambda: events == ["asked", "left"])
        finally:
            connection.close()
