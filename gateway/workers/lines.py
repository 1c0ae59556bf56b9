"""The standard errors of several processes on one: whole lines, which do not mix."""

import asyncio
import contextlib
import os
import threading
from collections import deque
from typing import Final

__all__ = ["LineOutput"]

_CHUNK: Final = 65_536
_MAX_LINE: Final = 2**20  # bytes; a longer line is passed on in parts
_MAX_SHOWN: Final = 400  # characters of a line among the last lines


class LineOutput:
    """Writes to `descriptor`. A slow reader delays the processes, as if they wrote there themselves, not the loop."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write whole lines of this process."""
        self._write(text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Do nothing: lines are written at once."""

    def pass_on(self, source: int, last_lines: deque[str], *, is_quiet: bool) -> asyncio.Future[None]:
        """Pass on all lines from a pipe, which is closed at its end; the future is done then. `last_lines` gets each
        line; those of a quiet process go nowhere else."""
        loop = asyncio.get_running_loop()
        end = loop.create_future()

        def copy() -> None:
            try:
                self._copy(source, last_lines, is_quiet=is_quiet)
            finally:
                os.close(source)
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(end.cancel)

        threading.Thread(target=copy, name="worker-lines", daemon=True).start()
        return end

    def _copy(self, source: int, last_lines: deque[str], *, is_quiet: bool) -> None:
        rest = b""
        while part := os.read(source, _CHUNK):
            lines, newline, rest = (rest + part).rpartition(b"\n")
            if len(rest) > _MAX_LINE:
                lines, newline, rest = lines + newline + rest, b"", b""
            self._pass(lines + newline, last_lines, is_quiet=is_quiet)
        self._pass(rest and rest + b"\n", last_lines, is_quiet=is_quiet)

    def _pass(self, lines: bytes, last_lines: deque[str], *, is_quiet: bool) -> None:
        # only the end can be among the last lines
        last_lines.extend(line[:_MAX_SHOWN] for line in lines[-_CHUNK:].decode(errors="replace").splitlines())
        if lines and not is_quiet:
            self._write(lines)

    def _write(self, lines: bytes) -> None:
        with self._lock:
            try:
                while lines:
                    lines = lines[os.write(self.descriptor, lines) :]
            except OSError:  # a closed or full standard error stops no worker
                return
