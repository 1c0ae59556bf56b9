"""An upstream and a load that cost next to nothing, for gateways that use all processors themselves.

`python -m tests.bench.light upstream PORT`, or `... load PORT SECONDS JSON`, where JSON has `connections`, `users` and
a `seed`; it prints the requests a second as JSON. Both speak just enough HTTP for a gateway: requests and answers with
a length. The upstream answers a model `find-WORD` with the number of times that the prompt has the word.
"""

import asyncio
import importlib
import itertools
import re
import sys
import time
from typing import Any

import orjson

from tests.bench.servers import loop_name
from tests.bench.texts import Texts

__all__ = ["CONNECTIONS"]

CONNECTIONS = 32
_TEXTS = 2_000
_WARM_UP = 1.0  # seconds
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_WORD = re.compile(rb'"model": *"find-(\w+)"')
_SESSIONS = 50


class Messages(asyncio.Protocol):
    """A connection on which whole messages come; each is handed over with its head."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, message: bytes) -> None:
        assert self._transport is not None
        self._transport.write(message)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            head = bytes(self._buffer[:end])
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if len(self._buffer) < end + size:
                return
            body = bytes(self._buffer[end : end + size])
            del self._buffer[: end + size]
            self.handle(head, body)

    def handle(self, head: bytes, body: bytes) -> None:
        raise NotImplementedError


class UpstreamConnection(Messages):
    """Answers chats."""

    def __init__(self, numbers: "itertools.count[int]") -> None:
        super().__init__()
        self._numbers = numbers

    def handle(self, head: bytes, body: bytes) -> None:
        word = _WORD.search(body)
        number = next(self._numbers)
        # an answer is remembered too, unless it is the same as the one before
        content = f"Noted as number {number}." if word is None else str(body.count(word[1]) - 1)
        answer = orjson.dumps(
            {
                "id": f"chatcmpl-light{number}",
                "object": "chat.completion",
                "created": 1,
                "model": "light",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
            }
        )
        status = b"HTTP/1.1 200 OK" if head.startswith(b"POST") else b"HTTP/1.1 404 Not Found"
        self.send(status + b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


class LoadConnection(Messages):
    """Asks one question after the other."""

    def __init__(self, requests: "itertools.cycle[bytes]") -> None:
        super().__init__()
        self._requests = requests
        self.count = 0
        self.failures = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.send(next(self._requests))

    def handle(self, head: bytes, body: bytes) -> None:
        self.count += 1
        self.failures += not head.startswith(b"HTTP/1.1 200")
        self.send(next(self._requests))


def build_requests(port: int, users: int, seed: object) -> list[bytes]:
    """Chats of so many users; of none if there is no memory."""
    texts, requests = Texts(seed), []
    for number in range(_TEXTS):
        body = orjson.dumps({"model": "light", "messages": [{"role": "user", "content": texts.question()}]})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        if users:
            head += f"x-memory-user: bench{number % users}\r\nx-memory-session: s{number % _SESSIONS}\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return requests


async def load(port: int, seconds: float, connections: int, users: int, seed: object) -> dict[str, float]:
    """Requests a second, and how many failed."""
    loop, requests = asyncio.get_running_loop(), itertools.cycle(build_requests(port, users, seed))
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: LoadConnection(requests), "127.0.0.1", port)
        clients.append(client)
    await asyncio.sleep(_WARM_UP)
    before, began = sum(client.count for client in clients), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    count = sum(client.count for client in clients) - before
    for client in clients:
        client.close()
    return {"per_second": count / elapsed, "failures": sum(client.failures for client in clients)}


async def serve(port: int) -> None:
    numbers = itertools.count()
    server = await asyncio.get_running_loop().create_server(
        lambda: UpstreamConnection(numbers), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    loop_factory = importlib.import_module(loop_name()).new_event_loop
    port = int(sys.argv[2])
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        if sys.argv[1] == "upstream":
            runner.run(serve(port))
        else:
            options = orjson.loads(sys.argv[4])
            result = runner.run(load(port, float(sys.argv[3]), **options))
            sys.stdout.write(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
