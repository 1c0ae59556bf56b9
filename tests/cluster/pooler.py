"""A connection pooler in transaction mode, as PgBouncer is one: each transaction of a client may run on another
connection to the server, and notifications reach nobody."""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

__all__ = ["running_pooler"]

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_GREETING = b"SK"  # parameters, and the key for cancelling
_Inbox = asyncio.Queue[tuple[bool, bytes, bytes]]
"""Messages for a client's coroutine: whether it is of the server, its kind, and the whole of it."""


@dataclass(slots=True)
class _Server:
    writer: asyncio.StreamWriter
    greeting: bytes
    client: _Inbox | None = None


@dataclass(slots=True)
class _Pool:
    port: int
    startup: bytes = b""
    idle: deque[_Server] = field(default_factory=deque)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def take(self, client: _Inbox) -> _Server:
        """The connection that was idle for longest; there are two at least, so that sessions are torn apart."""
        while len(self.idle) < 2:
            self.idle.append(await self._connect())
        server = self.idle.popleft()
        server.client = client
        return server

    def give(self, server: _Server) -> None:
        server.client = None
        self.idle.append(server)

    async def _connect(self) -> _Server:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(self.startup)
        server = _Server(writer, b"")
        kind = b""
        while kind != b"Z":
            kind, message = await _read(reader)
            server.greeting += message if kind in _GREETING else b""
        self.tasks.append(asyncio.create_task(_receive(server, reader)))
        return server


async def _receive(server: _Server, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            kind, message = await _read(reader)
            if server.client is not None:
                server.client.put_nowait((True, kind, message))


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A message of the protocol: its kind, and the whole of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


async def _read_startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The first message of a client; empty if it wants to cancel something."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!ii", head)
        if code == _CANCEL:
            return b""
        if code not in (_SSL, _GSS):
            return head + await reader.readexactly(length - 8)
        writer.write(b"N")


async def _pump(reader: asyncio.StreamReader, inbox: _Inbox) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            inbox.put_nowait((False, *await _read(reader)))
    inbox.put_nowait((False, b"X", b""))


async def _serve(pool: _Pool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pool.writers.append(writer)
    pool.startup = await _read_startup(reader, writer) or pool.startup
    inbox: _Inbox = asyncio.Queue()
    server: _Server | None = await pool.take(inbox)
    assert server is not None
    writer.write(b"R\0\0\0\x08\0\0\0\0" + server.greeting + b"Z\0\0\0\x05I")
    pool.give(server)
    server, unanswered = None, 0
    pool.tasks.append(asyncio.create_task(_pump(reader, inbox)))
    while True:
        is_of_server, kind, message = await inbox.get()
        if not is_of_server:
            if kind == b"X":
                return
            if server is None:
                server = await pool.take(inbox)
            unanswered += kind in (b"Q", b"S")
            server.writer.write(message)
            continue
        if kind != b"A":  # a notification is for a session that may be gone
            writer.write(message)
        if kind == b"Z":
            unanswered -= 1
            if server is not None and not unanswered and message[-1:] == b"I":
                pool.give(server)
                server = None


@contextlib.asynccontextmanager
async def running_pooler(port: int) -> AsyncIterator[int]:
    """A pooler before the server at a port. Gives its own port."""
    pool = _Pool(port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await _serve(pool, reader, writer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for writer in pool.writers:
            writer.close()
        await asyncio.gather(*pool.tasks)
