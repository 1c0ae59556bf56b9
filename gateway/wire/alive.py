"""Comments in the silences of a stream, for proxies and clients that hang up on silent connections.

A comment is no part of any event (WHATWG HTML, 9.2.6), and stands only between two events.
"""

import asyncio
from collections.abc import AsyncGenerator

__all__ = ["kept_alive"]

_COMMENT = b": keep-alive\n\n"
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


async def kept_alive(pieces: AsyncGenerator[bytes], seconds: float) -> AsyncGenerator[bytes]:
    """The pieces as they come, and a comment after each so many seconds without one."""
    is_between_events = True
    waiting: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            waiting = asyncio.create_task(_next(pieces), name="next-piece")
            while not (await asyncio.wait({waiting}, timeout=seconds))[0]:
                if is_between_events:
                    yield _COMMENT
            piece = waiting.result()
            if piece is None:
                return
            is_between_events = piece.endswith(_ENDS)
            yield piece
    finally:
        if waiting is not None and not waiting.done():
            waiting.cancel()
            await asyncio.wait({waiting}, timeout=1)
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(pieces, None)
