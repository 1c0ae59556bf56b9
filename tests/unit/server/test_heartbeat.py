import asyncio
from collections.abc import AsyncGenerator

import pytest

from gateway.server.heartbeat import with_heartbeat


async def pieces(*parts: bytes | float, closed: list[bool]) -> AsyncGenerator[bytes]:
    try:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                yield part
    finally:
        closed.append(True)


async def test_silence_between_events_gets_comments_and_silence_within_one_none() -> None:
    closed: list[bool] = []
    made = pieces(b"data: a\n\n", 0.13, b"data: b", 0.13, b"\n\n", closed=closed)
    found = [piece async for piece in with_heartbeat(made, 0.05)]
    assert [piece for piece in found if not piece.startswith(b":")] == [b"data: a\n\n", b"data: b", b"\n\n"]
    assert 1 <= found.count(b": keep-alive\n\n") <= 2
    assert found.index(b": keep-alive\n\n") == 1
    assert closed == [True]


async def test_a_failure_passes_and_the_pieces_are_closed() -> None:
    async def failing() -> AsyncGenerator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _ = [piece async for piece in with_heartbeat(failing(), 1)]


async def test_whoever_stops_reading_stops_the_source() -> None:
    closed: list[bool] = []
    made = with_heartbeat(pieces(b"a", 30.0, closed=closed), 0.01)
    assert await anext(made) == b"a"
    task = asyncio.create_task(anext(made))
    await asyncio.wait({task}, timeout=0.03)
    task.cancel()
    await asyncio.wait({task})
    await made.aclose()
    assert closed == [True]
