"""Runs work off the event loop where its size says that it may take more than a few milliseconds."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["offload"]

_T = TypeVar("_T")
_SMALL = 2048  # characters; text analysis of so many takes a millisecond or two at the most


async def offload(job: Callable[[], _T], size: int) -> _T:
    """What `job` returns; `size` is the number of characters that it reads."""
    return job() if size <= _SMALL else await asyncio.to_thread(job)
