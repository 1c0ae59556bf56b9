"""The channel between a worker and its supervisor: messages over a socket pair, in frames."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from gateway.config import Config
from gateway.workers import message_kinds
from gateway.workers.frames import LENGTH_BYTES, decode_frame, encode_frame, read_frame
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers

__all__ = [
    "WORKER_VARIABLE",
    "Assignment",
    "Control",
    "connect_peers",
    "ignore_terminal",
    "inherited_control",
]

WORKER_VARIABLE: Final = "GATEWAY_WORKER"
"""The environment variable of a worker with the number of its inherited descriptor of the channel."""

_STANDARD_ERROR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker is to be. `config` has the port that all workers listen on, `folder` the sockets between them;
    `locks` and `errors` are inherited descriptors: locks to keep open, and the standard error of the supervisor."""

    number: int
    count: int
    folder: str
    config: Config
    locks: tuple[int, ...]
    errors: int
    is_trial: bool = False
    """True if the process checks the configuration only, with its plugins, and ends."""


def ignore_terminal() -> None:
    """Ignore the signals that a terminal sends to all processes of a gateway: the supervisor acts on them."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name)
        signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # blocked by the supervisor until now


def inherited_control() -> "Control | None":
    """The channel of this process to its supervisor; None if it is no worker."""
    descriptor = os.environ.pop(WORKER_VARIABLE, None)  # not for processes that a worker starts
    return None if descriptor is None else Control(socket.socket(fileno=int(descriptor)))


class Control:
    """A worker's channel to its supervisor. `assignment` is what the supervisor sent first."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        length = int.from_bytes(self._receive(LENGTH_BYTES))
        self.assignment: Assignment = decode_frame(self._receive(length))[1]
        for descriptor in (connection.fileno(), self.assignment.errors, *self.assignment.locks):
            os.set_inheritable(descriptor, False)
        self._serving: frozenset[int] = frozenset()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    def serving(self) -> Collection[int]:
        """The numbers of the other workers that serve chats now (known to worker 0 only)."""
        return self._serving

    async def connect(self, stop: Callable[[], None]) -> None:
        """Receive messages from now on. `stop` is called when the supervisor wants the worker to stop, or is gone."""
        self._connection.setblocking(False)
        reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)
        self._reading = asyncio.create_task(self._read(reader, stop), name="control")

    def send(self, kind: str, value: Any = None) -> None:
        """Send a message to the supervisor at once. Messages to a supervisor that is gone are lost."""
        with contextlib.suppress(OSError):
            self._connection.send(encode_frame((kind, value)))  # small: it never has to wait

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._writer is not None:
            self._writer.close()

    async def _read(self, reader: asyncio.StreamReader, stop: Callable[[], None]) -> None:
        try:
            while True:
                kind, value = await read_frame(reader)
                if kind == message_kinds.SERVING:
                    self._serving = frozenset(value)
                elif kind == message_kinds.PING:
                    self.send(message_kinds.PONG)
                elif kind == message_kinds.STOP:
                    stop()
        except (OSError, EOFError):
            os.dup2(self.assignment.errors, _STANDARD_ERROR)  # its pipe has no reader now
            stop()

    def _receive(self, length: int) -> bytes:
        """Raises EOFError if the supervisor is gone."""
        received = bytearray()
        while len(received) < length:
            part = self._connection.recv(length - len(received))
            if not part:
                raise EOFError("the supervisor is gone")
            received += part
        return bytes(received)


class _SupervisedOwner(OwnerPeers):
    """The peers of worker 0, which tells the supervisor when others can connect."""

    def __init__(self, count: int, path: str, control: Control) -> None:
        super().__init__(
            count, path, serving=control.serving, end=lambda number: control.send(message_kinds.END, number)
        )
        self._control = control

    async def start(self) -> None:
        await super().start()
        self._control.send(message_kinds.OPEN)


def connect_peers(control: Control) -> Peers:
    """The peers of a worker; `start` connects them."""
    assignment = control.assignment
    path = os.path.join(assignment.folder, "bus")
    if assignment.number == 0:
        return _SupervisedOwner(assignment.count, path, control)
    return FollowerPeers(assignment.number, assignment.count, path)
