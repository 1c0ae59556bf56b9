"""Heartbeat comments for idle event streams: some proxies and clients drop silent connections.

A comment is no part of any event (WHATWG HTML, 9.2.6), and is sent only between two events.
"""

import asyncio
from collections.abc import AsyncGenerator

__all__ = ["with_heartbeat"]

_COMMENT = b": keep-alive\n\n"
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


async def with_heartbeat(chunks: AsyncGenerator[bytes], seconds: float) -> AsyncGenerator[bytes]:
    """Yield the chunks as they arrive, and a heartbeat comment after every `seconds` without one."""
    is_between_events = True
    pending: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            pending = asyncio.create_task(_next_chunk(chunks), name="next-piece")
            while not (await asyncio.wait({pending}, timeout=seconds))[0]:
                if is_between_events:
                    yield _COMMENT
            chunk = pending.result()
            if chunk is None:
                return
            is_between_events = chunk.endswith(_ENDS)
            yield chunk
    finally:
        if pending is not None and not pending.done():
            pending.cancel()
            await asyncio.wait({pending}, timeout=1)
        await chunks.aclose()


async def _next_chunk(chunks: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(chunks, None)
