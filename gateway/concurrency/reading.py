"""Reads streams of bytes as a whole, up to a limit."""

from collections.abc import AsyncIterable

__all__ = ["TooLong", "read_bounded"]


class TooLong(Exception):
    """A stream has more bytes than the reader takes."""


async def read_bounded(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """All bytes of a stream, at most `limit`. Raises TooLong at the chunk that exceeds it; the rest is not read."""
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > limit:
            raise TooLong(f"more than {limit} bytes")
    return bytes(content)
