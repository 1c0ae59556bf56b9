"""The other workers of a gateway, seen from one of them: messages to all, questions to some.

Worker 0 owns the store, and the socket that the others connect to; what they publish passes through it. A worker whose
connection ended connects again, and starts from a new snapshot: messages that it missed are not repeated.
"""

import asyncio
import contextlib
import logging
import os
from collections import ChainMap
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from gateway.concurrency.progress import wait_until_set
from gateway.workers import message_kinds
from gateway.workers.connection import Connection, HandlerEntry, MessageHandler, PeerUnavailable, encode_message

__all__ = ["FollowerPeers", "OwnerPeers", "PeerUnavailable", "Peers"]

_log = logging.getLogger("gateway.workers")
_RETRY_PAUSE: Final = 0.05  # seconds between two attempts to connect
_HELLO_TIMEOUT: Final = 5.0
_END_PAUSE: Final = 0.01  # seconds between two looks whether a worker has ended
_END_POLLS: Final = 200
_JOIN_TIMEOUT: Final = 1.0  # seconds that a deletion waits for a worker that is not connected


class Peers:
    """The peers of a process without workers: there are none, and it owns everything.

    Register handlers and callbacks before `start`. `number`: of this worker; `count`: of all.
    """

    def __init__(self, number: int = 0, count: int = 1) -> None:
        self.number = number
        self.count = count
        self.on_join: list[Callable[[int], None]] = []
        """Called with the number of a worker that connected, before messages are exchanged with it."""
        self.on_lost: list[Callable[[], None]] = []
        """Called in the other workers when the connection to the owner ended."""
        self.http_path = ""
        """Where the owner answers HTTP requests that other workers hand over to it: a Unix socket; empty without
        workers."""
        self._handlers: dict[str, HandlerEntry] = {}

    @property
    def is_owner(self) -> bool:
        return self.number == 0

    @property
    def is_shared(self) -> bool:
        """True if there are other workers."""
        return self.count > 1

    def on(self, kind: str, handler: MessageHandler, *, is_slow: bool = False) -> None:
        """Handle messages of a kind. A slow handler does not delay later messages."""
        self._handlers[kind] = HandlerEntry(handler, is_slow)

    async def start(self) -> None:
        """Start to listen for the other workers, or to connect to the owner. Raises OSError."""

    async def stop(self) -> None:
        """Disconnect."""

    async def connected(self, timeout: float) -> bool:
        """Wait until the owner is connected. False after the timeout (seconds)."""
        return True

    def publish(self, kind: str, value: Any) -> None:
        """Send a message to all other workers, in order, without waiting. It is lost if the owner is away."""

    def send(self, number: int, kind: str, value: Any) -> None:
        """Send a message to one worker, without waiting (the owner only)."""

    async def ask(self, number: int, kind: str, value: Any, timeout: float) -> Any:
        """The reply of a worker; other workers than the owner can ask the owner only. Raises PeerUnavailable."""
        raise PeerUnavailable("there are no other workers")

    async def ask_all(self, kind: str, value: Any, timeout: float) -> dict[int, Any]:
        """The replies of all other workers by number (the owner only). Those that do not reply in time are left out."""
        return {}

    async def require_all(self, kind: str, value: Any, timeout: float) -> dict[int, Any]:
        """As `ask_all`, but a worker that does not reply in time is ended, so that all that remain have replied."""
        return {}


class OwnerPeers(Peers):
    """The peers of worker 0. `path`: of the socket, in a folder that only the gateway's user can enter; `serving`
    returns the numbers of the workers that serve chats now, and `end` ends one of them."""

    def __init__(
        self, count: int, path: str, *, serving: Callable[[], Collection[int]], end: Callable[[int], None]
    ) -> None:
        super().__init__(0, count)
        self.http_path = _http_path(path)
        self._path = path
        self._serving = serving
        self._end = end
        self._connections: dict[int, Connection] = {}
        self._server: asyncio.Server | None = None
        self._joined = asyncio.Condition()

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, self._path)  # of an earlier owner
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    @property
    def others(self) -> Collection[int]:
        """The numbers of the workers that are connected."""
        return self._connections.keys()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.close()

    def publish(self, kind: str, value: Any) -> None:
        if self._connections:
            self._relay(kind, value, sender=0)

    def send(self, number: int, kind: str, value: Any) -> None:
        connection = self._connections.get(number)
        if connection is not None:
            connection.send(encode_message(kind, value))

    async def ask(self, number: int, kind: str, value: Any, timeout: float) -> Any:
        connection = self._connections.get(number)
        if connection is None:
            raise PeerUnavailable(f"worker {number} is not connected")
        return await connection.ask(kind, value, timeout)

    async def ask_all(self, kind: str, value: Any, timeout: float) -> dict[int, Any]:
        return await self._ask_some(list(self._connections), kind, value, timeout)

    async def require_all(self, kind: str, value: Any, timeout: float) -> dict[int, Any]:
        replies = await self.ask_all(kind, value, timeout)
        missing = set(self._serving()) - replies.keys() - {self.number}
        if missing - self._connections.keys():  # a worker connects now, or hangs
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_JOIN_TIMEOUT), self._joined:
                    await self._joined.wait_for(lambda: missing <= self._connections.keys())
            joined = [number for number in missing if number in self._connections]
            replies |= await self._ask_some(joined, kind, value, timeout)
            missing -= replies.keys()
        for number in missing:
            _log.error("worker_ended", extra={"peer": number, "reason": f"no reply to {kind}"})
            self._end(number)
            connection = self._connections.pop(number, None)
            if connection is not None:
                connection.close()
        if missing:
            await self._wait_until_ended(missing)
        return replies

    async def _wait_until_ended(self, numbers: Collection[int]) -> None:
        """Wait until the supervisor has ended workers, which must not go on with what they know; not for ever."""
        for _ in range(_END_POLLS):
            if set(self._serving()).isdisjoint(numbers):
                return
            await asyncio.sleep(_END_PAUSE)

    async def _ask_some(self, numbers: Sequence[int], kind: str, value: Any, timeout: float) -> dict[int, Any]:
        questions = (self.ask(number, kind, value, timeout) for number in numbers)
        replies = zip(numbers, await asyncio.gather(*questions, return_exceptions=True), strict=True)
        return {number: reply for number, reply in replies if not isinstance(reply, BaseException)}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own: dict[str, HandlerEntry] = {}
        handlers = ChainMap(own, self._handlers)
        connection = Connection(reader, writer, handlers)
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT):
                kind, number = await connection.receive()
        except (PeerUnavailable, TimeoutError):
            connection.close()
            return
        if kind != message_kinds.HELLO or number not in range(1, self.count):
            connection.close()
            return
        own[message_kinds.PUBLISHED] = HandlerEntry(partial(self._relay_published, number))
        earlier = self._connections.pop(number, None)
        if earlier is not None:
            earlier.close()
        self._connections[number] = connection
        for callback in self.on_join:
            callback(number)
        async with self._joined:
            self._joined.notify_all()
        try:
            await connection.run()
        finally:
            if self._connections.get(number) is connection:
                del self._connections[number]

    async def _relay_published(self, sender: int, message: tuple[str, Any]) -> None:
        kind, value = message
        self._relay(kind, value, sender=sender)
        entry = self._handlers.get(kind)
        result = None if entry is None else entry.handle(value)
        if isinstance(result, Awaitable):
            await result

    def _relay(self, kind: str, value: Any, *, sender: int) -> None:
        frame = encode_message(kind, value)
        for number, connection in list(self._connections.items()):
            if number != sender:
                connection.send(frame)


class FollowerPeers(Peers):
    """The peers of a worker that does not own the store: it is connected to the owner, at `path`."""

    def __init__(self, number: int, count: int, path: str) -> None:
        super().__init__(number, count)
        self.http_path = _http_path(path)
        self._path = path
        self._connection: Connection | None = None
        self._is_connected = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="peers")

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def connected(self, timeout: float) -> bool:
        return await wait_until_set(self._is_connected, timeout)

    def publish(self, kind: str, value: Any) -> None:
        self.send(0, message_kinds.PUBLISHED, (kind, value))

    def send(self, number: int, kind: str, value: Any) -> None:
        if self._connection is not None:
            self._connection.send(encode_message(kind, value))

    async def ask(self, number: int, kind: str, value: Any, timeout: float) -> Any:
        if self._connection is None:
            raise PeerUnavailable("the owner of the store is not connected")
        return await self._connection.ask(kind, value, timeout)

    async def _run(self) -> None:
        """Connect whenever there is no connection."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(_RETRY_PAUSE)
                continue
            connection = Connection(reader, writer, self._handlers)
            try:
                connection.send(encode_message(message_kinds.HELLO, self.number))
                self._connection = connection
                self._is_connected.set()
                for callback in self.on_join:
                    callback(0)
                await connection.run()
            finally:
                self._connection = None
                self._is_connected.clear()
                connection.close()
            _log.warning("owner_lost")
            for on_lost in self.on_lost:
                on_lost()
            await asyncio.sleep(_RETRY_PAUSE)


def _http_path(path: str) -> str:
    """The path of the owner's socket for HTTP: in the folder of the one for messages."""
    return os.path.join(os.path.dirname(path), "owner")
