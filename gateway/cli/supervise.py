"""`gateway serve` with workers: takes what they share, and runs their supervisor."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TextIO, cast

from gateway.cli.config_file import load_config
from gateway.cli.ending import describe_listening, fail
from gateway.config import Config
from gateway.storage.folder import FolderRefused, lock_folder
from gateway.telemetry import set_up_logging
from gateway.workers.lines import LineOutput
from gateway.workers.listening import reserve_port
from gateway.workers.socket_folder import SocketFolder
from gateway.workers.supervisor import Supervision, Supervisor

__all__ = ["supervise"]

_STANDARD_ERROR = 2


def supervise(config: Config, arguments: argparse.Namespace, workers: int) -> int:
    """Run workers until a signal ends it. Returns the exit status."""
    _open_standard_descriptors()
    output = LineOutput(os.dup(_STANDARD_ERROR))
    set_up_logging(config.log.level, cast("TextIO", output))
    with _shared(config) as (port, folder, locks):
        # workers import what this process would, and nothing else of the folder that they are started in
        os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        supervision = Supervision(
            command=(sys.executable, "-P", "-m", "gateway", *sys.argv[1:]),
            folder=folder,
            port=port,
            locks=locks,
            output=output,
            load=lambda: load_config(arguments),
            announce=_announce,
            report=lambda text: output.write(f"gateway: {text}\n"),
        )
        return asyncio.run(_run(config, workers, supervision))


async def _run(config: Config, workers: int, supervision: Supervision) -> int:
    supervisor = Supervisor(config, workers, supervision)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, supervisor.stop)
    loop.add_signal_handler(signal.SIGINT, supervisor.interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        is_terminal = sys.stdin is not None and sys.stdin.isatty()
        loop.add_signal_handler(signal.SIGHUP, supervisor.stop if is_terminal else supervisor.reload)
    return await supervisor.run()


@contextlib.contextmanager
def _shared(config: Config) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """The port, the folder of sockets, and the locks that workers share. Ends the process if they cannot be had."""
    with contextlib.ExitStack() as stack:
        locks = []
        try:
            if config.memory.enabled:
                locks.append(lock_folder(config.data_folder))
                stack.callback(os.close, locks[0])
            port, sockets = reserve_port(config.server.host, config.server.port)
        except FolderRefused as error:
            fail(str(error), 1)
        except OSError as error:
            fail(describe_listening(error, config.server), 1)
        for reserved in sockets:
            stack.enter_context(reserved)
        try:
            folder = SocketFolder()
        except OSError as error:
            fail(
                f"cannot create a folder for the sockets between workers: {error.strerror or error}; set TMPDIR to a "
                "folder with a short path that this user can write to",
                1,
            )
        stack.callback(folder.remove)
        yield port, str(folder.path), (*locks, folder.lock)


def _open_standard_descriptors() -> None:
    """Open what is closed of standard input, output and error: a pipe of a worker would else get its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _announce(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed standard output
        sys.stdout.write(text)
        sys.stdout.flush()
