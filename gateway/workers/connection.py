"""One connection between two workers: messages and questions over a Unix socket, in frames.

The value of a message is a frame's content of its own, so that one that is not needed is not read.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from gateway.workers.frames import decode_frame, encode_content, encode_frame, read_frame

__all__ = ["Connection", "HandlerEntry", "MessageHandler", "PeerUnavailable", "encode_message"]

MessageHandler = Callable[[Any], Any]
"""Handles the value of a message; may be async. Its result is the reply, if one is expected."""

_log = logging.getLogger("gateway.workers")
_MAX_UNSENT: Final = 64 * 2**20  # bytes; a peer that takes no more is disconnected, and starts from a new snapshot


class PeerUnavailable(Exception):
    """Raised when another worker is not connected, fails, or does not reply in time."""


class _Type(IntEnum):
    MESSAGE = 0
    QUESTION = 1
    REPLY = 2
    FAILURE = 3


@dataclass(frozen=True, slots=True)
class HandlerEntry:
    """A handler. `is_slow`: it runs as a task, so that later messages do not wait for it."""

    handle: MessageHandler
    is_slow: bool = False


def encode_message(kind: str, value: Any) -> bytes:
    """Encode a message, which can be sent to several peers."""
    return _encode(_Type.MESSAGE, 0, kind, value)


class Connection:
    """A connection to a peer. `handlers` by kind are called in the order in which messages arrive."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handlers: Mapping[str, HandlerEntry],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._numbers = itertools.count(1)
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, frame: bytes) -> None:
        """Send an encoded message without waiting. A peer that does not read is disconnected."""
        if self._writer.is_closing():
            return
        self._writer.write(frame)
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT:
            _log.error("worker_too_slow", extra={"unsent": self._writer.transport.get_write_buffer_size()})
            self._writer.transport.abort()

    async def ask(self, kind: str, value: Any, timeout: float) -> Any:
        """Send a question and wait for the reply. Raises PeerUnavailable."""
        number = next(self._numbers)
        future = self._questions[number] = asyncio.get_running_loop().create_future()
        if self._writer.is_closing():
            future.set_exception(PeerUnavailable("the connection is closed"))
        try:
            self.send(_encode(_Type.QUESTION, number, kind, value))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            raise PeerUnavailable(f"no reply to {kind} within {timeout} s") from error
        finally:
            del self._questions[number]

    async def receive(self) -> tuple[str, Any]:
        """The next message, before `run` is called. Raises PeerUnavailable if the connection is closed."""
        try:
            _, _, kind, value = await self._read(is_first=True)
        except (OSError, EOFError) as error:
            raise PeerUnavailable("the connection is closed") from error
        return kind, value

    async def run(self) -> None:
        """Handle messages until the connection ends."""
        try:
            while True:
                type_, number, kind, value = await self._read()
                if type_ in (_Type.REPLY, _Type.FAILURE):
                    self._settle(number, value, is_failure=type_ == _Type.FAILURE)
                    continue
                entry = self._handlers.get(kind)
                work = self._handle(entry, number if type_ == _Type.QUESTION else 0, kind, value)
                if entry is not None and entry.is_slow:
                    task = asyncio.create_task(work, name=f"peer-{kind}")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    await work
        except (OSError, EOFError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        self._writer.close()
        for future in self._questions.values():
            if not future.done():
                future.set_exception(PeerUnavailable("the connection was closed"))

    async def _read(self, *, is_first: bool = False) -> tuple[_Type, int, str, Any]:
        """A message; its value is None if it has no handler. Raises OSError or EOFError."""
        try:
            type_, number, kind, value = await read_frame(self._reader)
            # a value without a handler is left as it is: it may need modules that are being imported in a thread
            is_wanted = is_first or type_ != _Type.MESSAGE or kind in self._handlers
            return type_, number, kind, decode_frame(value) if is_wanted else None
        except (OSError, EOFError):
            raise
        except Exception as error:  # as of a peer that runs another version, after an update
            _log.exception("worker_message_failed", extra={"kind": "unreadable"})
            raise EOFError("the message cannot be read") from error

    async def _handle(self, entry: HandlerEntry | None, number: int, kind: str, value: Any) -> None:
        if entry is None and not number:
            return  # its part of this process has not started
        try:
            if entry is None:
                raise LookupError(f"there is no handler of {kind}")
            result = entry.handle(value)
            if isinstance(result, Awaitable):
                result = await result
        except Exception as error:  # noqa: BLE001 — one message must not end the connection
            _log.exception("worker_message_failed", extra={"kind": kind})
            if number:
                self.send(_encode(_Type.FAILURE, number, kind, f"{type(error).__name__}: {error}"))
        else:
            if number:
                self.send(_encode(_Type.REPLY, number, kind, result))

    def _settle(self, number: int, value: Any, *, is_failure: bool) -> None:
        future = self._questions.get(number)
        if future is None or future.done():
            return
        if is_failure:
            future.set_exception(PeerUnavailable(str(value)))
        else:
            future.set_result(value)


def _encode(type_: _Type, number: int, kind: str, value: Any) -> bytes:
    return encode_frame((type_, number, kind, encode_content(value)))
