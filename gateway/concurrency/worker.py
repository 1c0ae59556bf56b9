"""Background workers: start, bounded stop, and pauses after faults. A fault is logged whole and never ends a worker."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

__all__ = ["Backoff", "RepeatingWorker", "Worker"]

_JITTER = 0.2  # share of a pause: so that several workers that failed together do not retry together


class Backoff:
    """Pauses between tries, in seconds: each twice as long as the one before, up to `longest`, less some jitter."""

    def __init__(self, first: float, longest: float | None = None) -> None:
        self._first = first
        self._longest = first if longest is None else longest
        self._pause = first

    def next(self) -> float:
        """The next pause."""
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return round(pause * (1 - _JITTER * random.random()), 3)

    def reset(self) -> None:
        """Begin with the first pause again, since a try has succeeded."""
        self._pause = self._first


class Worker:
    """A background task that runs `work` once for each start. `fault` is the log event of an error that it raised."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        log: logging.Logger,
        fault: str,
        *,
        stop_timeout: float = 5.0,
    ) -> None:
        self._name = name
        self._work = work
        self._log = log
        self._fault = fault
        self._stop_timeout = stop_timeout
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start the task; does nothing while it is running."""
        if not self.is_running:
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> bool:
        """Cancel the task and wait until it has ended, but not for ever. False if it was never started."""
        if self._task is None:
            return False
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task], timeout=self._stop_timeout)
        return True

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception as error:  # noqa: BLE001 — logged whole; the next start runs the work again
            self._log_fault(error)

    def _log_fault(self, error: Exception) -> None:
        self._log.exception(self._fault, extra={"cause": type(error).__name__})


class RepeatingWorker(Worker):
    """A background task that runs `work` again and again, until it is stopped.

    `pauses` are made after faults; `work` resets them when it has succeeded. `on_fault` is called before each
    pause, with the error and the seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        log: logging.Logger,
        fault: str,
        *,
        pauses: Backoff,
        on_fault: Callable[[Exception, float], None] | None = None,
        stop_timeout: float = 5.0,
    ) -> None:
        super().__init__(name, work, log, fault, stop_timeout=stop_timeout)
        self._pauses = pauses
        self._on_fault = on_fault

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 — the worker must outlive any fault; it is logged whole
                self._log_fault(error)
                seconds = self._pauses.next()
                if self._on_fault is not None:
                    self._on_fault(error, seconds)
                await asyncio.sleep(seconds)
