"""A worker's process, seen from its supervisor."""

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.workers import message_kinds
from gateway.workers.control import WORKER_VARIABLE, Assignment
from gateway.workers.frames import encode_frame, read_frame
from gateway.workers.lines import LineOutput

__all__ = ["WorkerProcess", "describe_exit"]

_LAST_LINES: Final = 12
_END_TIMEOUT: Final = 2.0  # seconds for the last messages and lines of a process that has ended

_WorkerListener = Callable[["WorkerProcess", str, Any], None]


class WorkerProcess:
    """A started process. `last_lines` are the newest lines of its standard error."""

    def __init__(
        self, assignment: Assignment, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter
    ) -> None:
        self.assignment = assignment
        self.number = assignment.number
        self.pid = process.pid
        self.is_ready = False
        self.is_stopping = False
        self.unanswered_pings = 0
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._process = process
        self._writer = writer
        self._ends: list[asyncio.Future[None]] = []
        self._killing: asyncio.TimerHandle | None = None

    @classmethod
    async def start(
        cls, command: Sequence[str], assignment: Assignment, output: LineOutput, on_message: _WorkerListener
    ) -> "WorkerProcess":
        """Start a process, which reads the assignment first. Raises OSError."""
        source, errors = os.pipe()
        near, far = socket.socketpair()
        try:
            process = await _spawn(command, assignment, control=far.fileno(), errors=errors)
        except BaseException:
            os.close(source)
            near.close()
            raise
        finally:
            os.close(errors)
            far.close()
        reader, writer = await asyncio.open_unix_connection(sock=near)
        worker = cls(assignment, process, writer)
        worker.send(message_kinds.ASSIGNMENT, assignment)
        reading = asyncio.create_task(worker._read(reader, on_message), name=f"worker-{worker.number}")
        worker._ends = [reading, output.pass_on(source, worker.last_lines, is_quiet=assignment.is_trial)]
        return worker

    async def wait(self) -> int:
        """Wait until the process has ended and its last messages and lines are handled. Returns its exit status, or
        minus the signal that ended it."""
        status = await self._process.wait()
        await asyncio.wait(self._ends, timeout=_END_TIMEOUT)
        self._ends[0].cancel()
        self._writer.close()
        if self._killing is not None:
            self._killing.cancel()
        return status

    def send(self, kind: str, value: Any = None) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_frame((kind, value)))

    def ping(self) -> None:
        """Ask the process whether its event loop runs."""
        self.unanswered_pings += 1
        self.send(message_kinds.PING)

    def stop(self, timeout: float) -> None:
        """Ask the process to end its responses and stop; kill it after the timeout."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.send(message_kinds.STOP)
        self._killing = asyncio.get_running_loop().call_later(timeout, self.kill)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read(self, reader: asyncio.StreamReader, on_message: _WorkerListener) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, value = await read_frame(reader)
                self.unanswered_pings = 0
                if kind != message_kinds.PONG:
                    on_message(self, kind, value)


async def _spawn(
    command: Sequence[str], assignment: Assignment, *, control: int, errors: int
) -> asyncio.subprocess.Process:
    """Start a process with the signals of a terminal blocked, until it ignores them."""
    signals = {signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(control, assignment.errors, *assignment.locks),
            env={**os.environ, WORKER_VARIABLE: str(control)},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def describe_exit(status: int) -> str:
    """Describe the exit status of a process in words."""
    if status >= 0:
        return f"it exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (by hand, or because the machine had no memory left)" if -status == signal.SIGKILL else ""
    return f"it was killed by {name}{hint}"
