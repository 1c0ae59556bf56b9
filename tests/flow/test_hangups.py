"""A client that leaves stops the upstream within a second, in every phase; what it said is kept."""

import asyncio
import json
import socket

import pytest

from tests.fakes.running import Running, eventually
from tests.fakes.upstream import FakeUpstream, chunk, hangs

WINDOWS = {
    "plain, before the answer": (False, None),
    "stream, before the head": (True, None),
    "stream, after the head": (True, []),
    "stream, in the middle": (True, [chunk({"content": "one"})]),
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_the_upstream_is_cancelled(gateway: Running, upstream: FakeUpstream, window: str, reset: bool) -> None:
    is_stream, before = WINDOWS[window]
    upstream.script = hangs(before)
    body = json.dumps(
        {"model": "fake-1", "stream": is_stream, "messages": [{"role": "user", "content": f"I wait for {window}"}]}
    ).encode()
    port = int(gateway.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nx-memory-user: ada\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await eventually(lambda: len(upstream.received) == 1)
    if before is not None:  # the client has what came so far
        await asyncio.wait_for(reader.readuntil(b"one" if before else b"\r\n\r\n"), 5)
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()
    else:
        writer.close()
    await eventually(lambda: upstream.closed == 1, timeout=1)
    await gateway.settled()
    found = await gateway.post("/product/search", {"user_id": "ada", "query": f"wait {window}", "relativity": 0})
    assert f"I wait for {window}" in found.body.decode()


async def test_a_passed_through_request_is_cancelled_too(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = hangs()
    task = asyncio.create_task(gateway.get("/v1/files"))
    await eventually(lambda: len(upstream.received) == 1)
    task.cancel()
    await asyncio.wait([task])
    await eventually(lambda: upstream.closed == 1, timeout=1)
