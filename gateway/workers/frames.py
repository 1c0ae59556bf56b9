"""Frames between the processes of a gateway: a pickle after its length.

Pickle is safe here: both ends are processes of one gateway and one user, over a pair of sockets without an address, or
a Unix socket in a folder that only this user can enter.
"""

import asyncio
import pickle
from typing import Any, Final

__all__ = ["LENGTH_BYTES", "decode_frame", "encode_content", "encode_frame", "read_frame"]

LENGTH_BYTES: Final = 4
"""The bytes of a frame's length, at its beginning."""

_MAX_LENGTH: Final = 2**30  # bytes


def encode_content(message: Any) -> bytes:
    """A message without the length of a frame."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def encode_frame(message: Any) -> bytes:
    content = encode_content(message)
    return len(content).to_bytes(LENGTH_BYTES) + content


def decode_frame(content: bytes) -> Any:
    """The message in a frame without its length."""
    return pickle.loads(content)  # noqa: S301 — see above


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Read a message. Raises OSError or EOFError when the other end is gone."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
    if length > _MAX_LENGTH:
        raise EOFError("the frame is too long")
    return decode_frame(await reader.readexactly(length))
