"""`gateway serve`: one process, or a supervisor with workers (`server.workers`)."""

import argparse
import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from gateway import process
from gateway.cli.ending import describe_listening, fail
from gateway.cli.stranded import recover_stranded
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.storage.folder import FolderRefused
from gateway.telemetry import set_up_logging
from gateway.workers import message_kinds
from gateway.workers.control import Control, connect_peers

if TYPE_CHECKING:
    from gateway.app import Gateway, Started

__all__ = ["run", "run_worker"]


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it. Returns the exit status."""
    from gateway.workers.cores import usable_cores  # noqa: PLC0415 — not needed by a worker

    try:
        recover_stranded(config)
    except ConfigError as error:
        fail(str(error), 2)
    workers = config.server.workers or usable_cores()
    if workers > 1 and sys.platform != "win32":
        from gateway.cli.supervise import supervise  # noqa: PLC0415 — not needed by one process

        return supervise(config, arguments, workers)
    from gateway.app import Gateway  # noqa: PLC0415 — a supervisor must not import it

    try:
        gateway = Gateway(config)
    except ConfigError as error:
        fail(str(error), 2)
    return process.run(_run(gateway, config))


async def _run(gateway: "Gateway", config: Config) -> int:
    from gateway.cli.banner import announce  # noqa: PLC0415 — a supervisor must not import it

    set_up_logging(config.log.level)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        started = await gateway.start()
    except (ConfigError, FolderRefused, OSError) as error:
        fail(*_describe_refusal(error, config))
    for name in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(name, stopped.set)
        except NotImplementedError:  # Windows
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(stopped.set))
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        is_terminal = sys.stdin is not None and sys.stdin.isatty()
        loop.add_signal_handler(signal.SIGHUP, stopped.set if is_terminal else _ignore_hangup)
    announce(started, config)
    await stopped.wait()
    await gateway.stop()
    return 0


def run_worker(control: Control) -> int:
    """Run as a worker of a supervisor, until it says stop. Returns the exit status."""
    from gateway.app import Gateway  # noqa: PLC0415 — a supervisor must not import it

    config = control.assignment.config
    try:
        if control.assignment.is_trial:
            Gateway(config)  # loads and checks the plugins
            return 0
        gateway = Gateway(config, connect_peers(control))
    except ConfigError as error:
        _refuse(control, error)
    return process.run(_run_worker(gateway, control))


async def _run_worker(gateway: "Gateway", control: Control) -> int:
    assignment = control.assignment
    set_up_logging(assignment.config.log.level, origin={"worker": assignment.number})
    stopped = asyncio.Event()
    await control.connect(stopped.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    try:
        started = await gateway.start()
    except (ConfigError, FolderRefused, OSError) as error:
        _refuse(control, error)
    control.send(message_kinds.READY, _render_banner(started, assignment.config) if assignment.number == 0 else "")
    await stopped.wait()
    await gateway.stop()
    await control.close()
    return 0


def _render_banner(started: "Started", config: Config) -> str:
    """The banner as the terminal of this process, which is that of the supervisor, shows it."""
    from rich.console import Console  # noqa: PLC0415 — a supervisor must not import it

    from gateway.cli.banner import announce  # noqa: PLC0415 — as above

    console = Console()
    with console.capture() as capture:
        announce(started, config, console)
    return capture.get()


def _refuse(control: Control, error: ConfigError | FolderRefused | OSError) -> NoReturn:
    """End a worker that cannot start, with the message of a gateway without workers."""
    message, status = _describe_refusal(error, control.assignment.config)
    control.send(message_kinds.REFUSED, status)
    fail(message, status)


def _describe_refusal(error: ConfigError | FolderRefused | OSError, config: Config) -> tuple[str, int]:
    """The message and the exit status for an error of the start."""
    if isinstance(error, ConfigError | FolderRefused):
        return str(error), 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, TimeoutError) and not error.strerror:  # of another worker
        return str(error), 1
    return describe_listening(error, config.server), 1


def _ignore_hangup() -> None:
    """SIGHUP without a terminal is a request to reload, which a gateway without workers does not do."""
    logging.getLogger("gateway.app").warning("sighup_ignored", extra={"reason": "restart to read the configuration"})
