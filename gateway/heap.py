"""The process's memory: what is loaded is left alone, and what was given back goes back to the system.

The C library keeps what threads free, in pools of their own; LanceDB, Arrow and NumPy have many threads and free much
at a time. Measured after ten minutes of load: 270 of 1 600 MiB were free and not given back. Elsewhere than on glibc
this does nothing.
"""

import ctypes
import gc
import sys
from typing import Any

__all__ = ["few_pools", "settle", "trim"]

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_POOLS = 2
_LARGE = 128 * 1024  # bytes: what is larger gets pages of its own, which go back when it is freed


def settle() -> None:
    """What is loaded now stays: the collector need not look at it again (measured: 0.78 of the CPU per request)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def few_pools() -> None:
    """Let threads share pools of free memory, and keep what is large out of them: working sets come and go for days,
    and each one's arrays would leave a hole where the next one's do not fit (the library raises its own limit to 32 MiB
    with the first large block that is freed). Call it before there are threads."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _POOLS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def trim() -> None:
    """Give free memory back. Some tens of milliseconds: call it in a thread, now and then."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)
