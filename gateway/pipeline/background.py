"""Background tasks that outlive the request that starts them."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["BackgroundTasks"]

_T = TypeVar("_T")


class BackgroundTasks:
    """Tasks that are not cancelled with their request, such as remembering after a hang-up, and notifying observers."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work without a result; `stop` waits for it."""
        _ = self.start(work)

    def start(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Start a task; `stop` waits for it."""
        task = asyncio.create_task(work, name="afterwards")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def is_idle(self) -> bool:
        """True if no task runs."""
        return not self._tasks

    def cancel_all(self) -> None:
        """Cancel all tasks, as the end of the process would."""
        for task in self._tasks:
            task.cancel()

    async def stop(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, for all tasks."""
        deadline = time.monotonic() + timeout
        while self._tasks and (remaining := deadline - time.monotonic()) > 0:  # a task may start another
            await asyncio.wait(self._tasks, timeout=remaining)
