"""Runs CPU work in a thread if its size suggests that it takes more than a few milliseconds."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["offload"]

_T = TypeVar("_T")
_SMALL = 2048  # characters; analysing that much text takes at most one or two milliseconds


async def offload(job: Callable[[], _T], size: int) -> _T:
    """Run `job` and return its result; `size` is the number of characters that it reads."""
    return job() if size <= _SMALL else await asyncio.to_thread(job)
