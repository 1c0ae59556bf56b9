"""The supervisor of a gateway with workers: it starts them, restarts those that die, and passes on signals.

It serves nothing and imports nothing heavy, so that little can happen to it. If it is killed, its workers end their
responses and stop.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.workers import message_kinds
from gateway.workers.child import WorkerProcess, describe_exit
from gateway.workers.control import Assignment
from gateway.workers.fixed_keys import keep_fixed
from gateway.workers.lines import LineOutput

__all__ = ["Supervision", "Supervisor"]

_log = logging.getLogger("gateway.workers")
_CLOSING: Final = 15.0  # seconds that a worker may take to close its files, after `server.shutdown_timeout`
_SOON: Final = 10.0  # seconds; a worker that lived shorter died soon after its start
_FIRST_PAUSE: Final = 0.2
_MAX_PAUSE: Final = 10.0
_LOOP_DEATHS: Final = 5  # deaths before a worker was ready, within _LOOP_SECONDS: a crash loop
_LOOP_SECONDS: Final = 60.0
_PING_EVERY: Final = 5.0
_MAX_UNANSWERED: Final = 6  # pings in a row, after which a worker hangs: after half a minute
_TRIAL: Final = -1  # number of the process that tries a configuration
_TRIAL_TIMEOUT: Final = 60.0
_KILLED_BY_INTERRUPT: Final = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What a supervisor works with. `command` starts a worker; `locks` are descriptors that workers keep open; `output`
    is the standard error; `load` reads the configuration again and may raise ConfigError; `announce` gets the text for
    the operator after the start, and `report` one about a failure."""

    command: Sequence[str]
    folder: str
    port: int
    locks: tuple[int, ...]
    output: LineOutput
    load: Callable[[], Config]
    announce: Callable[[str], None]
    report: Callable[[str], None]


@dataclass(slots=True)
class _Slot:
    """The place of one worker: its present process, and the deaths of earlier ones before they were ready."""

    number: int
    process: WorkerProcess | None = None
    config: Config | None = None
    early_deaths: deque[float] = field(default_factory=lambda: deque(maxlen=_LOOP_DEATHS))
    pause: float = 0.0

    @property
    def is_serving(self) -> bool:
        return self.process is not None and self.process.is_ready


class Supervisor:
    """Runs `count` workers with a configuration until it is told to stop."""

    def __init__(self, config: Config, count: int, supervision: Supervision) -> None:
        self._config = config
        self._previous: Config | None = None  # while workers get a new configuration
        self._supervision = supervision
        self._slots = [_Slot(number) for number in range(count)]
        self._owner_listens = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._is_changed = asyncio.Event()  # set when a worker is ready, or has ended
        self._has_started = False
        self._banner = ""
        self._status = 0

    async def run(self) -> int:
        """Run until `stop` or a crash loop ends it. Returns the exit status."""
        keepers = [asyncio.create_task(self._keep(slot), name=f"keep-{slot.number}") for slot in self._slots]
        reloading = asyncio.create_task(self._reload_when_wanted(), name="reload")
        watching = asyncio.create_task(self._watch(), name="watch")
        try:
            await self._is_stopping.wait()
            self._stop_all()
            for result in await asyncio.gather(*keepers, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
        finally:
            reloading.cancel()
            watching.cancel()
            await asyncio.wait([reloading, watching])
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.kill()
        return self._status

    def stop(self, status: int = 0) -> None:
        """Let all workers end their responses, all at the same time, then stop."""
        if not self._is_stopping.is_set():
            self._status = status
            self._is_stopping.set()
            self._owner_listens.set()  # nothing is to wait for it any more

    def interrupt(self) -> None:
        """Stop; at the second time kill the workers."""
        if self._is_stopping.is_set():
            self._status = self._status or _KILLED_BY_INTERRUPT
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.kill()
        self.stop()

    def reload(self) -> None:
        """Read the configuration again, and restart the workers one after the other."""
        self._reload_wanted.set()

    def _stop_all(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.stop(self._stop_timeout)

    @property
    def _stop_timeout(self) -> float:
        return self._config.server.shutdown_timeout + _CLOSING

    async def _keep(self, slot: _Slot) -> None:
        """Start the process of a worker, again and again, until the supervisor stops."""
        try:
            if slot.number > 0:  # the files of the memory are created by worker 0
                await self._owner_listens.wait()
            while not self._is_stopping.is_set():
                began = time.monotonic()
                slot.config = self._config
                process = slot.process = await self._start(slot.number, self._config)
                if self._is_stopping.is_set():
                    process.stop(self._stop_timeout)
                status = await process.wait()
                slot.process = None
                self._note_change()
                if self._is_stopping.is_set() or process.is_stopping:
                    continue
                self._note_death(slot, process, status, time.monotonic() - began)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(slot.pause):
                        await self._is_stopping.wait()
        except OSError as error:
            self._supervision.report(f"cannot start worker {slot.number}: {error}")
            self.stop(1)
        except BaseException:
            self.stop(1)
            raise

    async def _start(self, number: int, config: Config, *, is_trial: bool = False) -> WorkerProcess:
        supervision = self._supervision
        server = config.server.model_copy(update={"port": supervision.port, "workers": len(self._slots)})
        assignment = Assignment(
            number=number,
            count=len(self._slots),
            folder=supervision.folder,
            config=config.model_copy(update={"server": server}),
            locks=supervision.locks,
            errors=supervision.output.descriptor,
            is_trial=is_trial,
        )
        process = await WorkerProcess.start(supervision.command, assignment, supervision.output, self._handle)
        if number == 0:
            process.send(message_kinds.SERVING, self._serving())
        return process

    def _handle(self, process: WorkerProcess, kind: str, value: Any) -> None:
        """Handle a message of a worker."""
        if process.assignment.is_trial:
            return
        if kind == message_kinds.OPEN and process.number == 0:
            self._owner_listens.set()
        elif kind == message_kinds.READY:
            process.is_ready = True
            _log.info("worker_ready", extra={"worker": process.number, "pid": process.pid})
            self._banner = value or self._banner
            self._note_change()
        elif kind == message_kinds.REFUSED and not self._has_started:
            self.stop(value)  # the worker has written why
        elif kind == message_kinds.END and process.number == 0:
            hanging = self._slots[value].process
            if hanging is not None:
                hanging.kill()

    def _note_change(self) -> None:
        """Tell worker 0 which workers serve, and the operator when all do for the first time."""
        owner = self._slots[0].process
        if owner is not None:
            owner.send(message_kinds.SERVING, self._serving())
        if not self._has_started and all(slot.is_serving for slot in self._slots):
            self._has_started = True
            self._supervision.announce(self._banner)
        self._is_changed.set()

    def _serving(self) -> list[int]:
        """The numbers of the workers that serve beside worker 0, which is told."""
        return [slot.number for slot in self._slots[1:] if slot.is_serving]

    def _note_death(self, slot: _Slot, process: WorkerProcess, status: int, lifetime: float) -> None:
        """Log a death, and set the pause before the restart; stop after too many."""
        slot.pause = 0.0 if lifetime >= _SOON else min(_MAX_PAUSE, max(_FIRST_PAUSE, 2 * slot.pause))
        exit_text = describe_exit(status)
        _log.error("worker_died", extra={"worker": slot.number, "reason": exit_text, "pause": slot.pause})
        if process.is_ready:
            slot.early_deaths.clear()
            return
        if self._previous is not None and slot.config is self._config:
            reason = f"worker {slot.number} does not start with it: {_join(process.last_lines) or exit_text}"
            _log.error("reload_failed", extra={"reason": reason})
            self._config, self._previous = self._previous, None
        now = time.monotonic()
        slot.early_deaths.append(now)
        if len(slot.early_deaths) < _LOOP_DEATHS or slot.early_deaths[0] < now - _LOOP_SECONDS:
            return
        lines = "\n".join(f"  {line}" for line in process.last_lines) or "  (nothing)"
        self._supervision.report(
            f"worker {slot.number} died {_LOOP_DEATHS} times within {_LOOP_SECONDS:.0f} s before it was ready; at last "
            f"{exit_text}. It wrote:\n{lines}\nAll workers are stopped. Correct the cause and start again; "
            "`gateway serve --workers 1` runs without workers."
        )
        self.stop(1)

    async def _watch(self) -> None:
        """Kill workers that hang: what they hold others wait for, and their clients get no answer.

        Pings are counted, not seconds: a machine that was suspended, or a supervisor that was stopped, kills nothing.
        """
        while True:
            await asyncio.sleep(_PING_EVERY)
            for slot in self._slots:
                process = slot.process
                if process is None or not process.is_ready:  # imports block a process that starts
                    continue
                if process.unanswered_pings >= _MAX_UNANSWERED:
                    _log.error("worker_hangs", extra={"worker": slot.number})
                    process.kill()
                else:
                    process.ping()

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            try:
                await self._reload()
            except Exception:  # noqa: BLE001 — the workers go on as they are
                _log.exception("reload_failed", extra={"reason": "unexpected"})

    async def _reload(self) -> None:
        """Read the configuration; if it is valid, restart all workers with it, each after it has ended its responses.

        Worker 0 is the last: while it restarts nothing is stored, and the others begin with empty working sets, so what
        the trial did not find should show at another worker.
        """
        try:
            config, ignored = keep_fixed(self._config, await asyncio.to_thread(self._supervision.load))
        except ConfigError as error:
            _log.error("reload_failed", extra={"reason": str(error)})
            return
        reason = await self._try(config)
        if reason:
            _log.error("reload_failed", extra={"reason": reason})
            return
        if ignored:
            _log.warning("reload_incomplete", extra={"keys": ignored, "reason": "restart the gateway to change these"})
        self._previous, self._config = self._config, config
        while outdated := [slot for slot in self._slots if slot.config is not self._config]:
            slot = outdated[-1]
            if slot.process is not None:
                slot.process.stop(self._stop_timeout)
            while not (slot.config is self._config and slot.is_serving):
                self._is_changed.clear()
                await self._is_changed.wait()
        if self._previous is not None:
            _log.warning("reloaded", extra={"workers": len(self._slots)})
        self._previous = None

    async def _try(self, config: Config) -> str:
        """Why a worker would not start with a configuration; empty if it would."""
        trial = await self._start(_TRIAL, config, is_trial=True)
        try:
            async with asyncio.timeout(_TRIAL_TIMEOUT):
                status = await trial.wait()
        except TimeoutError:
            return f"checking the plugins took longer than {_TRIAL_TIMEOUT:.0f} s"
        finally:
            trial.kill()
        if status == 0:
            return ""
        return _join(trial.last_lines) or describe_exit(status)


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines).removeprefix("gateway: ")
