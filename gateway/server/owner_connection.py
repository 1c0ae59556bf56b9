"""A request to the owner of the store over its Unix socket, and the response to it: HTTP/1.1, with bytes as they came.

No client library is used: one would add a host where the client sent none, encode names and values in another way, or
repeat a request. Each request has a connection of its own, since one that is kept may be closed while it is used.
"""

import asyncio
import re
import select
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import BadRequest

__all__ = ["OwnerConnection", "OwnerLost", "ResponseHead"]

_PIECE: Final = 65_536  # bytes
_MAX_HEAD: Final = 2**18  # bytes of the head of a response
_ENDS_AT_HOP: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        b"expect",  # the server that read the head has answered it
        b"content-length",
    )
)
"""Headers that are not handed over. Those that `Connection` names are, since a client must not be able to remove a
header that a rule reads."""
_DECODED: Final = ("gzip", "deflate")  # encodings of a body that the HTTP server undoes
_STATUS_LINE: Final = re.compile(r"HTTP/1\.[01] (\d{3}) ?(.*)")
_HEAD_START: Final = 0.1  # seconds that the owner has to refuse the head of a request before its bad body counts


class OwnerLost(Exception):
    """The owner did not answer, or broke its answer off."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The status and headers of a response, without those that concern the connection. `is_last`: the connection must
    be closed after it."""

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    is_last: bool
    is_chunked: bool
    length: int | None


class OwnerConnection:
    """A connection that was opened for one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: str) -> "OwnerConnection":
        """Connect to the socket of the owner. Raises OSError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(path)  # at once; asyncio takes a full queue of connections for success
            return cls(*await asyncio.open_unix_connection(sock=connection, limit=_MAX_HEAD))
        except BaseException:
            connection.close()
            raise

    async def send(self, request: web.Request) -> None:
        """Send a request; its body as it arrives. Raises BadRequest for a body that is not what its headers say, or
        OSError."""
        has_body = request.body_exists
        is_decoded = has_body and request.headers.get("content-encoding", "").strip().lower() in _DECODED
        is_chunked = has_body and (is_decoded or request.content_length is None)
        self._writer.write(_encode_head(request, is_chunked=is_chunked, is_decoded=is_decoded))
        try:
            while has_body and (piece := await request.content.readany()):
                self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
                await self._writer.drain()
        except (web.RequestPayloadError, HttpProcessingError) as error:
            await asyncio.sleep(_HEAD_START)
            raise BadRequest("the body is not what its headers say (length or encoding)", code="bad_body") from error
        if is_chunked:
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def head(self) -> ResponseHead:
        """Read the head of the response. Raises OwnerLost."""
        try:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("utf-8", "replace").split("\r\n")[:-2]
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise OwnerLost("the owner of the store did not answer") from error
        status_line = _STATUS_LINE.fullmatch(lines[0])
        if status_line is None:
            raise OwnerLost("the owner of the store did not answer in HTTP")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        values = {name.lower(): value for name, value in headers}
        length = values.get("content-length")
        return ResponseHead(
            status=int(status_line[1]),
            reason=status_line[2],
            headers=[pair for pair in headers if pair[0].lower() not in ("connection", "transfer-encoding")],
            is_last=values.get("connection", "").lower() == "close",
            is_chunked=values.get("transfer-encoding", "").lower() == "chunked",
            length=None if length is None else int(length),
        )

    async def body(self, head: ResponseHead) -> AsyncIterator[bytes]:
        """Read the body of the response as it arrives. Raises OwnerLost if it is broken off."""
        try:
            if not head.is_chunked and head.length is None:  # for a client of HTTP/1.0
                while piece := await self._reader.read(_PIECE):
                    yield piece
                return
            if not head.is_chunked:
                async for piece in self._read(head.length or 0):
                    yield piece
                return
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                async for piece in self._read(size):
                    yield piece
                await self._reader.readexactly(2)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise OwnerLost("the owner of the store broke its answer off") from error

    def has_hung_up(self) -> bool:
        """True if the owner closed the connection, even if there is something left to read."""
        descriptor = self._writer.get_extra_info("socket").fileno()
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection at once; an owner that still answers cancels its work."""
        self._writer.transport.abort()

    async def _read(self, size: int) -> AsyncIterator[bytes]:
        while size:
            piece = await self._reader.read(min(size, _PIECE))
            if not piece:
                raise EOFError("the connection was closed")
            size -= len(piece)
            yield piece


def _encode_head(request: web.Request, *, is_chunked: bool, is_decoded: bool) -> bytes:
    """The request line and the headers as the client sent them."""
    minor = min(request.version.minor, 1)
    lines = [f"{request.method} {request.raw_path} HTTP/1.{minor}".encode("utf-8", "surrogateescape")]
    if "host" not in request.headers and request.raw_path.startswith("/"):
        lines.append(f"Host: {request.host}".encode())  # the address that the client connected to
    length = b""
    for name, value in request.raw_headers:
        lower = name.lower()
        if lower == b"content-length":
            length = value
        if lower not in _ENDS_AT_HOP and not (is_decoded and lower == b"content-encoding"):
            lines.append(name + b": " + value)
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif length:
        lines.append(b"Content-Length: " + length)
    return b"\r\n".join([*lines, b"", b""])
