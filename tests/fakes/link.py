"""The way to a server, over TCP, which a test can cut: then nothing is refused, and nothing is answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Link", "running_link"]

_PIECE = 2**16


class Link:
    """Forwards connections from `port` to a port of this machine. While `is_cut` what is sent waits, as it does in a
    network that drops packets and repeats them; new connections seem to open, and get no answer."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_cut(self) -> bool:
        return not self._is_whole.is_set()

    def cut(self) -> None:
        self._is_whole.clear()

    def join(self) -> None:
        self._is_whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._is_whole.wait()
            with contextlib.suppress(ConnectionError):
                await self._forward(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over; a stream's task that is cancelled is reported
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, requests))
                group.create_task(self._pump(answers, writer))
        finally:
            requests.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(_PIECE):
                await self._is_whole.wait()
                writer.write(piece)
                await writer.drain()
        await self._is_whole.wait()
        writer.close()  # a half-open connection is of no use to either side

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


@asynccontextmanager
async def running_link(target: int, host: str = "127.0.0.1") -> AsyncIterator[Link]:
    """A link to a port of this machine, which listens at `host`."""
    link = Link(target)
    server = await asyncio.start_server(link.serve, host, 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        await link.stop()
