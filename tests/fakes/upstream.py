"""A scripted upstream on a real socket: records what it gets, answers what a test tells it to.

Without a script it behaves as a small OpenAI-compatible server. A script is any aiohttp handler.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeUpstream:
    """`script` answers the next requests; `received` is what came; `closed` counts clients that hung up on us."""

    url: str = ""
    script: Script | None = None
    received: list[Received] = field(default_factory=list)
    closed: int = 0
    reply: str = "Understood."
    released: asyncio.Event = field(default_factory=asyncio.Event)
    connections: Callable[[], int] = lambda: 0

    @property
    def last(self) -> Received:
        return self.received[-1]

    def release(self) -> None:
        """End what `hangs` holds back, now and from now on: a gateway that stops need not wait for it."""
        self.released.set()

    def prompts(self) -> str:
        """All that went up, as one text."""
        return "\n".join(request.body.decode("utf-8", "replace") for request in self.received)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(
            Received(request.method, request.rel_url.raw_path, request.rel_url.raw_query_string, headers, body)
        )
        try:
            return await (self.script or self.default)(request)
        except asyncio.CancelledError:
            self.closed += 1
            raise

    async def default(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "fake-1", "object": "model", "owned_by": "f"}]})
        body = await request.read()
        if request.path != "/v1/chat/completions" or not body:
            return web.json_response({"path": request.path, "got": len(body)})
        asked = json.loads(body)
        if asked.get("stream"):
            return await stream(request, [*deltas(self.reply), DONE])
        return web.json_response(completion(self.reply))


DONE = b"data: [DONE]\n\n"
RELEASED = web.AppKey("RELEASED", asyncio.Event)


def completion(text: str | None, **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }


def chunk(delta: dict[str, Any], finish_reason: str | None = None, index: int = 0) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake-1",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def deltas(text: str) -> list[bytes]:
    pieces = [chunk({"content": piece}) for piece in text.split(" ") if piece] if text else []
    spaced = [chunk({"content": piece if i == 0 else f" {piece}"}) for i, piece in enumerate(text.split(" "))]
    return [chunk({"role": "assistant", "content": ""}), *(spaced if pieces else []), chunk({}, "stop")]


async def stream(
    request: web.Request, pieces: Sequence[bytes], *, pause: float = 0.0, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream", **(headers or {})})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
        if pause:
            await asyncio.sleep(pause)
    await response.write_eof()
    return response


async def pause(seconds: float) -> None:
    """A pause that a scripted part makes on purpose. To wait for something, use `eventually`."""
    await asyncio.sleep(seconds)


def streams(pieces: Sequence[bytes], **options: Any) -> Script:
    """A script that streams these pieces."""

    async def script(request: web.Request) -> web.StreamResponse:
        return await stream(request, pieces, **options)

    return script


def cuts_after(pieces: Sequence[bytes]) -> Script:
    """A script that streams these pieces and then breaks the connection without an end."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.close()
        return response

    return script


def hangs(before: Sequence[bytes] | None = None, seconds: float = 30) -> Script:
    """A script that sends nothing (or the head and these pieces) and then waits."""

    async def script(request: web.Request) -> web.StreamResponse:
        if before is None:
            await _held_back(request, seconds)
            return web.json_response(completion("late"))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in before:
            await response.write(piece)
        await _held_back(request, seconds)
        return response

    return script


async def _held_back(request: web.Request, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(request.app[RELEASED].wait(), seconds)


def says(status: int, body: bytes | dict[str, Any], content_type: str = "application/json", **headers: str) -> Script:
    """A script that gives one plain answer."""

    async def script(request: web.Request) -> web.StreamResponse:
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        return web.Response(status=status, body=raw, headers={"content-type": content_type, **headers})

    return script


@asynccontextmanager
async def running_upstream() -> AsyncIterator[FakeUpstream]:
    fake = FakeUpstream()
    app = web.Application(client_max_size=2**27)
    app[RELEASED] = fake.released
    app.router.add_route("*", "/{tail:.*}", fake.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    server = runner.server
    assert server is not None
    fake.connections = lambda: len(server.connections)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield fake
    finally:
        await runner.cleanup()
