"""The plugin interface: the only module that a plugin may import, besides `gateway.turn`.

A plugin is one class derived from `Plugin` with the hooks it needs. Arguments of hooks are frozen; to change something,
return a new value. Order, time limits, isolation and failure handling are the host's task (`plugin_host.py`).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from gateway.config.numbers import check_numbers
from gateway.errors import GatewayError
from gateway.formats.base import Answer
from gateway.formats.sse import Event
from gateway.memory.recalled import Memory
from gateway.memory.record import Record
from gateway.storage.counters import SharedCounters
from gateway.turn import Turn

__all__ = ["DROP", "HOOKS", "Event", "Plugin", "PluginConfigModel", "PluginCounters", "Reject", "Reply", "Services"]

HOOKS: Final = (
    "on_request",
    "on_recall",
    "on_messages",
    "on_stream_event",
    "on_response",
    "on_store",
    "on_error",
    "on_memory_change",
)


class _Drop:
    def __repr__(self) -> str:
        return "DROP"


DROP: Final = _Drop()
"""Return value of `on_stream_event` to leave an event out."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer instead of the upstream's; `body` is JSON in the client's own format, or the bytes of an answer (a
    stream if `content_type` is that of one)."""

    body: Mapping[str, Any] | bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Reject(GatewayError):
    """Raised by a plugin to refuse a turn; the client gets status and message in its own format."""

    type = "rejected"

    def __init__(
        self, status: int, message: str, *, code: str = "rejected", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, code=code, headers=headers)
        if not 400 <= status <= 599:
            raise ValueError("a refusal has a status from 400 to 599")
        self.status = status
        if status == 429:
            self.type = "rate_limit_error"


class PluginCounters(Protocol):
    """Counters of one plugin in all processes of the gateway; they survive a restart. Neither method raises an error.

    In a gateway of one process a sum is exact. With several, it lacks what the others counted within the last second.
    """

    def add(self, name: str, amount: float, expires: float) -> None:
        """Add to a counter, which exists until `expires` (seconds since 1970). Names are stored: use digests of names
        of users and keys."""

    async def get(self, names: Iterable[str]) -> Mapping[str, float]:
        """The sums of counters; 0 for those that do not exist or have expired."""


@dataclass(frozen=True, slots=True)
class Services:
    """Services passed to a plugin at its start. `count(kind)` increments a counter on the metrics page; `counters` are
    sums to decide by. `workers`: the number of processes that share the folder, each with its own instance of the
    plugin."""

    logger: logging.Logger
    folder: Path
    clock: Callable[[], float]
    count: Callable[[str], None]
    counters: PluginCounters = field(default_factory=SharedCounters)
    workers: int = 1


class PluginConfigModel(BaseModel):
    """Base class of a plugin's `Config`: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        return check_numbers(cls, value, info)


class Plugin:
    """Base class of all plugins. Every hook is optional."""

    Config: ClassVar[type[BaseModel]] = PluginConfigModel
    critical: ClassVar[bool] = False
    reads_stream: ClassVar[bool] = False
    body_bytes: int = 0
    """Maximum size of a stream that `on_response` gets complete, as sent, in `answer.body`."""
    rewrites_stream: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    async def start(self, services: Services) -> None:
        """Called before the first request. An exception stops the start of the gateway."""

    async def stop(self) -> None:
        """Called after the last request."""

    async def on_request(self, turn: Turn) -> Reply | None:
        """Called when the turn is identified, before recall. May return a reply instead of the upstream's, or raise
        `Reject`."""
        return None

    async def on_recall(self, turn: Turn, memories: Sequence[Memory]) -> Sequence[Memory] | None:
        """Called after the search, before the budget. May return other memories; new ones with `trust="plugin"`."""
        return None

    async def on_messages(
        self, turn: Turn, messages: Sequence[Mapping[str, Any]]
    ) -> Sequence[Mapping[str, Any]] | None:
        """Called with the prompt for the upstream, memories included. May return other messages, or raise `Reject`."""
        return None

    def on_stream_event(self, turn: Turn, event: Event) -> Event | object | None:
        """Called for each event if `reads_stream`. With `rewrites_stream`: may return a new event, or `DROP`."""
        return None

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        """Called after the last byte was sent. Only observes."""

    async def on_store(self, turn: Turn, records: Sequence[Record]) -> Sequence[Record] | None:
        """Called before records are written to the journal. May return other records."""
        return None

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        """Called instead of `on_response` when the turn failed."""

    def on_memory_change(self, scopes: Collection[str]) -> None:
        """Called when memories of these scopes (`Scope.value`) were changed or deleted; data derived from them is
        outdated. Only observes, and must return at once."""
