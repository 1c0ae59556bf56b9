import asyncio
from collections.abc import AsyncGenerator, Mapping

from gateway.upstream.replay import Replayed, read_error


class Body:
    """An upstream's error in chunks."""

    status = 500

    def __init__(self, *chunks: bytes) -> None:
        self.headers: Mapping[str, str] = {"content-type": "text/plain"}
        self.is_closed = False
        self._chunks = chunks

    async def chunks(self) -> AsyncGenerator[bytes]:
        for chunk in self._chunks:
            yield chunk

    def close(self) -> None:
        self.is_closed = True


def test_an_answer_that_was_read_can_be_forwarded() -> None:
    async def run() -> None:
        incoming = Body(b"a", b"b")
        replayed = Replayed(incoming, await read_error(incoming))
        assert (replayed.status, replayed.headers) == (500, incoming.headers)
        assert [chunk async for chunk in replayed.chunks()] == [b"ab"]
        replayed.close()
        assert incoming.is_closed

    asyncio.run(run())


def test_a_long_error_is_truncated() -> None:
    async def run() -> None:
        assert len(await read_error(Body(*[bytes(400_000)] * 9))) == 1_200_000

    asyncio.run(run())
