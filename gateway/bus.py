"""Messages between the replicas of a cluster. A gateway that is no replica has a bus without recipients."""

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Bus", "BusHandler"]

BusHandler = Callable[[Any], Awaitable[None] | None]
"""Acts on the value of a message, which is JSON. It raises MemoryUnavailable or StorageError to be called again."""


class Bus:
    """The bus of a gateway without replicas. Register handlers before `start`."""

    is_shared = False
    """True if there may be other replicas."""

    def __init__(self) -> None:
        self._handlers: dict[str, BusHandler] = {}
        self._slow: set[str] = set()
        self.on_gap: list[Callable[[], None]] = []
        """Called when messages may have been missed."""

    def on(self, kind: str, handler: BusHandler, *, is_slow: bool = False) -> None:
        """Act on messages of a kind. A slow handler does not delay later messages."""
        self._handlers[kind] = handler
        if is_slow:
            self._slow.add(kind)

    def publish(self, kind: str, value: Any) -> None:
        """Send a message to all other replicas, without waiting."""

    async def require_all(self, kind: str, value: Any) -> None:
        """Send a message to all other replicas, and wait until each has acted on it, or has ended. Raises
        MemoryUnavailable."""

    async def require(self, recipient: str, kind: str, value: Any, timeout: float) -> None:
        """Send a message to one replica, and wait until it has acted on it. Raises MemoryUnavailable."""
