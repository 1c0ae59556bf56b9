"""Helpers that run in the project's own environment: a scripted upstream, and a client that sends many chats.

The upstream answers by the name of the model: `slow-…` streams word by word, `broken-…` fails with the model's name in
its message, any other repeats what it was asked.
"""

import asyncio
import json
import sys

import aiohttp
from aiohttp import web

from tests.fakes.upstream import DONE, completion, deltas, running_upstream, stream

__all__ = ["answer"]

WORDS = "This answer comes word by word so that a page can show it while it grows"
_AT_ONCE = 24
_PAUSE = 0.05


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer a chat as the name of its model says."""
    if request.method == "GET":
        models = [{"id": name, "object": "model", "owned_by": "scripted"} for name in ("echo-1", "slow-1", "broken-1")]
        return web.json_response({"object": "list", "data": models})
    body = await request.json()
    model = body.get("model", "")
    if model.startswith("broken-"):
        error = {
            "message": f"the model {model} fails: <img src=x onerror=alert(1)>",
            "type": "server_error",
            "code": model,
        }
        return web.json_response({"error": error}, status=400)
    question = body["messages"][-1]["content"].rpartition("</user_memory>")[2].strip()
    text = WORDS if model.startswith("slow-") else f"You said: {question}"
    if body.get("stream"):
        return await stream(request, [*deltas(text), DONE], pause=_PAUSE if model.startswith("slow-") else 0)
    return web.json_response(completion(text))


async def serve_upstream() -> None:
    async with running_upstream() as upstream:
        upstream.script = answer
        print(upstream.url, flush=True)
        await asyncio.Event().wait()


async def send_chats(url: str, count: int) -> None:
    """Send chats that the memory has no part in, of a hundred users."""
    numbers = iter(range(count))

    async def send(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"model": "offline", "messages": [{"role": "user", "content": f"Question {number}"}]}
            headers = {
                "x-memory-user": f"user-{number % 100}",
                "x-memory-mode": "off",
                "content-type": "application/json",
            }
            async with session.post(
                f"{url}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers
            ) as reply:
                assert reply.status == 200, await reply.text()
                await reply.read()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(send(session) for _ in range(_AT_ONCE)))


def main() -> None:
    name, *arguments = sys.argv[1:]
    asyncio.run(serve_upstream() if name == "upstream" else send_chats(arguments[0], int(arguments[1])))


if __name__ == "__main__":
    main()
