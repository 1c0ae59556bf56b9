"""An upstream without a server library, for what no server library would send; and clients without a client library."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(piece: bytes) -> bytes:
    """A piece as a chunk of a chunked body."""
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


@asynccontextmanager
async def raw_upstream(answer: Answer) -> AsyncIterator[str]:
    """Its URL. Each request is read with its body, then `answer` writes what it likes, and the connection is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
            await answer(writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


async def connected(url: str, sent: bytes, *, received_bytes: int | None = None) -> socket.socket:
    """A connection to a gateway on which these bytes were sent; `received_bytes`: what the system may hold for it."""
    host, _, port = url.removeprefix("http://").partition(":")
    made = socket.socket()
    made.setblocking(False)
    if received_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received_bytes)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, (host, int(port)))
    await loop.sock_sendall(made, sent)
    return made


async def read_all(made: socket.socket, timeout: float) -> bytes:
    """All until the other side closes. Raises TimeoutError if it does not."""
    loop, received = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(timeout):
        while True:
            try:
                piece = await loop.sock_recv(made, 65_536)
            except ConnectionResetError:
                return bytes(received)
            if not piece:
                return bytes(received)
            received += piece
