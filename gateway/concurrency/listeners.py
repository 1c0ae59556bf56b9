"""Listeners: callables that are called with a value when something has happened, and that may be async."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["Listener", "notify"]

_T = TypeVar("_T")

Listener = Callable[[_T], Awaitable[None] | None]
"""Called with a value; the caller waits for an async one."""


async def notify(listeners: Iterable[Listener[_T]], value: _T) -> None:
    """Call listeners in their order, and wait for those that are async."""
    for listener in listeners:
        result = listener(value)
        if result is not None:
            await result
