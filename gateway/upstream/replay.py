"""Upstreams' answers whose body is read before it is forwarded."""

from collections.abc import AsyncGenerator

from gateway.upstream.client import Incoming

__all__ = ["Replayed", "read_error"]

_MAX_ERROR_BODY = 1 << 20  # bytes


class Replayed:
    """An upstream's answer whose body was already read."""

    def __init__(self, incoming: Incoming, body: bytes) -> None:
        self.status = incoming.status
        self.headers = incoming.headers
        self._incoming = incoming
        self.body = body

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield self.body

    def close(self) -> None:
        self._incoming.close()


async def read_error(incoming: Incoming) -> bytes:
    """The body of an error, truncated after a megabyte."""
    body = bytearray()
    async for chunk in incoming.chunks():
        body += chunk
        if len(body) > _MAX_ERROR_BODY:
            break
    return bytes(body)
