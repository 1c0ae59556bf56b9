"""New turns as server-sent events for subscribers: gathered for a moment, serialised once for all of them.

A subscriber that does not read is dropped: neither turns nor other subscribers wait for one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson

from gateway.errors import Overloaded, TooManyRequests

__all__ = ["Conditions", "Subscription", "TurnFeed", "frame_of"]

_GATHERING = 0.1  # seconds that turns wait for others
_PING = 15.0  # seconds of silence
_PING_COMMENT: Final = b": ping\n\n"
_MAX_QUEUED = 2**20  # bytes that wait for one subscriber
_MAX_FRAMES = 256  # events that wait for one subscriber
_GRACE = 1.0  # seconds that a subscriber has to read its last event
_RETRY: Final = {"retry-after": "5"}


class Numbered(Protocol):
    """An entry of a log, by its number."""

    number: int


Entry = TypeVar("Entry", bound=Numbered)
Taken_contra = TypeVar("Taken_contra", contravariant=True)


class Conditions(Hashable, Protocol[Taken_contra]):
    """The entries that a subscriber asks for. Subscribers with equal conditions get the same bytes."""

    def takes(self, entry: Taken_contra) -> bool: ...


class Subscription(Generic[Entry]):
    """The events that wait for one subscriber of the `holder`. `abort` closes its connection: it is called if the
    subscriber does not read its last event."""

    def __init__(self, conditions: Conditions[Entry], holder: Hashable, abort: Callable[[], None]) -> None:
        self.conditions = conditions
        self.holder = holder
        self._abort = abort
        self._aborting: asyncio.TimerHandle | None = None
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._reason = ""
        self._is_changed = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """True if no more events will be queued."""
        return bool(self._reason)

    def put(self, frame: bytes) -> None:
        """Queue an event. A subscriber that is too far behind is dropped."""
        if self._reason:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size > _MAX_QUEUED or len(self._frames) > _MAX_FRAMES:
            self.drop()
        self._is_changed.set()

    def drop(self) -> None:
        """Send none of the events that still wait, if there are any, and end."""
        if self._frames:
            self._frames.clear()
            self.end("slow")

    def end(self, reason: str) -> None:
        """Queue the last event, with the reason."""
        if self._reason:
            return
        self._reason = reason
        self._is_changed.set()
        self._aborting = asyncio.get_running_loop().call_later(_GRACE, self._abort)

    def close(self) -> None:
        """Queue nothing more: the connection is closed."""
        self._reason = self._reason or "closed"
        if self._aborting is not None:
            self._aborting.cancel()

    async def frames(self) -> AsyncGenerator[bytes]:
        """The events as they come, with comments in between when nothing happens; ends after the last event."""
        yield _PING_COMMENT  # the client sees at once that it is connected
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._size -= len(frame)
                yield frame
            if self._reason:
                yield b"event: end\ndata: " + orjson.dumps({"reason": self._reason}) + b"\n\n"
                return
            self._is_changed.clear()
            try:
                async with asyncio.timeout(_PING):
                    await self._is_changed.wait()
            except TimeoutError:
                yield _PING_COMMENT


class TurnFeed(Generic[Entry]):
    """The subscribers, at most `limit` and `limit_of_holder` for one holder. `serialize` turns an entry into JSON."""

    def __init__(self, serialize: Callable[[Entry], Any], limit: int) -> None:
        self._serialize = serialize
        self._limit = limit
        self._subscriptions: list[Subscription[Entry]] = []
        self._pending: list[Entry] = []
        self._is_closed = False

    def subscribe(
        self,
        conditions: Conditions[Entry],
        holder: Hashable,
        abort: Callable[[], None],
        limit_of_holder: int | None = None,
    ) -> Subscription[Entry]:
        """Add a subscriber; it gets the entries from now on. Raises TooManyRequests or Overloaded."""
        if self._is_closed:
            raise Overloaded("the gateway is stopping", headers=dict(_RETRY))
        of_holder = sum(subscription.holder == holder for subscription in self._subscriptions)
        if len(self._subscriptions) >= self._limit or (limit_of_holder is not None and of_holder >= limit_of_holder):
            raise TooManyRequests("too many clients read the stream of turns; try again", headers=dict(_RETRY))
        self._flush()  # what is older is for the others
        subscription = Subscription(conditions, holder, abort)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[Entry]) -> None:
        """Remove a subscriber."""
        subscription.close()
        self._subscriptions.remove(subscription)

    def note(self, entry: Entry) -> None:
        """Send an entry to the subscribers, within a moment."""
        if not self._subscriptions:
            return
        self._pending.append(entry)
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_later(_GATHERING, self._flush)

    def keep_only(self, is_kept: Callable[[Entry], bool]) -> None:
        """Drop the other entries, if they were not sent yet. A subscriber for whom events wait is dropped: it can ask
        again for those that are left."""
        self._pending = list(filter(is_kept, self._pending))
        for subscription in self._subscriptions:
            subscription.drop()

    def close(self) -> None:
        """End all streams, since the gateway stops."""
        self._is_closed = True
        self._flush()
        for subscription in self._subscriptions:
            subscription.end("shutdown")

    def _flush(self) -> None:
        entries, self._pending = self._pending, []
        if not entries or not self._subscriptions:
            return
        items = [(entry, orjson.dumps(self._serialize(entry))) for entry in entries]
        frames: dict[Conditions[Entry], bytes] = {}
        for subscription in self._subscriptions:
            conditions = subscription.conditions
            frame = frames.get(conditions)
            if frame is None:
                chosen = [(entry.number, item) for entry, item in items if conditions.takes(entry)]
                frame = frames[conditions] = frame_of(chosen)
            if frame:
                subscription.put(frame)


def frame_of(items: Iterable[tuple[int, bytes]]) -> bytes:
    """The event with these entries, given by number and JSON; empty if there are none."""
    entries: Sequence[tuple[int, bytes]] = list(items)
    if not entries:
        return b""
    return b"id: %d\nevent: turns\ndata: [%b]\n\n" % (entries[-1][0], b",".join(item for _, item in entries))
