"""What the benchmark runs beside the gateway: a fast upstream, and the bare pass-through that all is compared with.

`python -m tests.bench.servers upstream PORT` or `... bare PORT UPSTREAM_PORT`. The name of the model says what the
upstream answers: `answer-120` gives 120 characters of conversation, `task-600` 600 of documents, each time others; a
stream has `CHUNKS` chunks, `INTERVAL` seconds
apart, each with the time at which it was sent (`sent`, nanoseconds of the monotonic clock, which processes share).
"""

import asyncio
import gc
import importlib
import itertools
import sys
import time
from collections.abc import Iterator

import aiohttp
import orjson
from aiohttp import web

from tests.bench.texts import Texts

__all__ = ["CHUNKS", "INTERVAL", "loop_name"]

CHUNKS = 100
INTERVAL = 0.02
_PASSAGES = 4_000
_DELTA = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench","sent":%d,'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def _answers() -> dict[str, Iterator[str]]:
    """Passages to cut answers from, by kind, made before the load begins; each answer gets a number of its own."""
    texts = Texts("answers")
    kinds = {"answer": texts.passage, "task": texts.document}
    return {kind: itertools.cycle([make(200) for _ in range(_PASSAGES)]) for kind, make in kinds.items()}


def _completion(passages: Iterator[str], number: int, length: int) -> bytes:
    content = f"{number}: "
    while len(content) < length:
        content += next(passages) + " "
    return orjson.dumps(
        {
            "id": f"chatcmpl-bench{number}",
            "object": "chat.completion",
            "created": 1,
            "model": "bench",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content[:length]},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": length // 4, "total_tokens": 9 + length // 4},
        }
    )


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    begin = asyncio.get_running_loop().time()
    for number in range(CHUNKS):
        await asyncio.sleep(max(0.0, begin + number * INTERVAL - asyncio.get_running_loop().time()))
        await response.write(_DELTA % time.monotonic_ns())
    await response.write(_LAST)
    return response


def upstream() -> web.Application:
    app = web.Application(client_max_size=2**26)
    passages, numbers = _answers(), itertools.count()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if body.get("stream"):
            return await _stream(request)
        kind, _, length = str(body["model"]).partition("-")
        answer = _completion(passages[kind], next(numbers), int(length))
        return web.Response(body=answer, content_type="application/json")

    async def collect(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app.router.add_post("/v1/chat/completions", handle)
    for signal in ("traces", "metrics"):  # it is the collector of OpenTelemetry, too
        app.router.add_post(f"/v1/{signal}", collect)
    return app


def bare(upstream_port: int) -> web.Application:
    """The least that a proxy can do with this framework: read, send on, write read by read."""
    app = web.Application(client_max_size=2**26)
    session = web.AppKey("session", aiohttp.ClientSession)

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        url = f"http://127.0.0.1:{upstream_port}{request.rel_url}"
        headers = {"content-type": "application/json"}
        async with app[session].post(url, data=body, headers=headers, allow_redirects=False) as answer:
            response = web.StreamResponse(status=answer.status, headers={"content-type": answer.content_type})
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    async def start(app: web.Application) -> None:
        app[session] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        )
        gc.freeze()  # as the gateway does
        gc.set_threshold(50_000, 50, 50)

    async def stop(app: web.Application) -> None:
        await app[session].close()

    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    app.router.add_post("/v1/chat/completions", handle)
    return app


def loop_name() -> str:
    """The event loop of both servers: uvloop if it is installed."""
    try:
        importlib.import_module("uvloop")
    except ImportError:
        return "asyncio"
    return "uvloop"


def main() -> None:
    app = upstream() if sys.argv[1] == "upstream" else bare(int(sys.argv[3]))
    module = importlib.import_module(loop_name())
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        access_log=None,
        print=None,
        handler_cancellation=True,
        loop=module.new_event_loop(),
    )


if __name__ == "__main__":
    main()
