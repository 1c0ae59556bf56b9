"""What the benchmark runs beside the gateway: a fast upstream, and the bare pass-through that all is compared with.

`python -m tests.bench.servers upstream PORT` or `... bare PORT UPSTREAM_PORT`.
"""

import json
import sys

import aiohttp
from aiohttp import web

CHUNKS = 100
_ANSWER = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Noted, thank you. I keep in mind that it was NUMBER euros."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49},
}
_PLAIN = json.dumps(_ANSWER).encode()
_DELTA = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


_COUNTER = web.AppKey("counter", list[int])


async def _upstream(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    if b'"stream":true' not in body:
        request.app[_COUNTER][0] += 1  # each answer says something else, as real ones do
        body = _PLAIN.replace(b"NUMBER", str(request.app[_COUNTER][0]).encode())
        return web.Response(body=body, content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(CHUNKS):
        await response.write(_DELTA)
    await response.write(_LAST)
    return response


def upstream() -> web.Application:
    app = web.Application(client_max_size=2**26)
    app[_COUNTER] = [0]
    app.router.add_post("/v1/chat/completions", _upstream)
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

    async def stop(app: web.Application) -> None:
        await app[session].close()

    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    app.router.add_post("/v1/chat/completions", handle)
    return app


if __name__ == "__main__":
    made = upstream() if sys.argv[1] == "upstream" else bare(int(sys.argv[3]))
    web.run_app(made, host="127.0.0.1", port=int(sys.argv[2]), access_log=None, print=None, handler_cancellation=True)
