"""Concurrency limiter: requests and body bytes in flight, in total and per key.

A request holds a slot from its first byte to its end. Work that continues after the client disconnects keeps the slot.
"""

import asyncio
from collections import Counter
from typing import Any, Final

from aiohttp import web

from gateway.config import LimitsConfig
from gateway.errors import Overloaded, TooManyRequests

__all__ = ["RequestLimiter", "RequestSlot", "set_slot", "slot_of"]

_RETRY: Final = {"retry-after": "1"}
_CLOSING: Final = {"retry-after": "1", "connection": "close"}  # the rest of the body is not read


class RequestLimiter:
    """Counters of all slots in use. Keys are distinguished by a number that the caller supplies."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self.requests = 0
        self.bytes = 0
        self.requests_by_key = Counter[int]()
        self.bytes_by_key = Counter[int]()

    def enter(self) -> "RequestSlot":
        """Open a slot for a new request."""
        return RequestSlot(self)


class RequestSlot:
    """The slot of one request, and its share of the limits."""

    def __init__(self, places: RequestLimiter) -> None:
        self._places = places
        self._key = 0
        self._bytes = 0
        self._holders = 1
        places.requests += 1

    def check(self) -> None:
        """Raise Overloaded if there are too many requests."""
        if self._places.requests > self._places.limits.in_flight:
            raise Overloaded("the gateway has too many requests at once; try again", headers=dict(_RETRY))

    def take_key(self, key: int) -> None:
        """Count the request towards a key (0: none). Raises TooManyRequests."""
        places = self._places
        if key and places.requests_by_key[key] >= places.limits.in_flight_per_key:
            raise TooManyRequests("this key has too many requests at once; try again", headers=dict(_RETRY))
        self._key = key
        if key:
            places.requests_by_key[key] += 1

    def take_bytes(self, count: int) -> None:
        """Count bytes of the body as they arrive. Raises Overloaded or TooManyRequests."""
        places, limits = self._places, self._places.limits
        self._bytes += count
        places.bytes += count
        places.bytes_by_key[self._key] += count
        if places.bytes > limits.bytes_in_flight:
            raise Overloaded("the gateway holds too many bytes of requests; try again", headers=dict(_CLOSING))
        if self._key and places.bytes_by_key[self._key] > limits.bytes_in_flight_per_key:
            raise TooManyRequests("this key has too many bytes in flight; try again", headers=dict(_CLOSING))

    def keep_for(self, task: "asyncio.Task[Any]") -> None:
        """Keep the slot until a task has ended, too."""
        if not task.done():
            self._holders += 1
            task.add_done_callback(lambda _: self.leave())

    def leave(self) -> None:
        """Drop one reference to the slot; the last one releases it."""
        self._holders -= 1
        if self._holders:
            return
        places = self._places
        places.requests -= 1
        places.bytes -= self._bytes
        if places.bytes_by_key[self._key] <= self._bytes:
            del places.bytes_by_key[self._key]
        else:
            places.bytes_by_key[self._key] -= self._bytes
        if self._key:
            places.requests_by_key[self._key] -= 1
            if not places.requests_by_key[self._key]:
                del places.requests_by_key[self._key]


_PLACE: Final = web.RequestKey("place", RequestSlot)


def slot_of(request: web.Request) -> RequestSlot:
    return request[_PLACE]


def set_slot(request: web.Request, place: RequestSlot) -> None:
    request[_PLACE] = place
