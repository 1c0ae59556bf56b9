"""Monitors prompt caching: how much of a prompt's beginning is unchanged since the request before, with injected
memories and without.

Providers cache prompts and charge less for a cached beginning. Request bodies are compared by the kilobyte. Pure except
for its state, the newest conversations.
"""

import zlib
from collections import OrderedDict
from itertools import takewhile

__all__ = ["PromptCacheMonitor"]

_PIECE = 1024  # bytes
_MAX_COMPARED_PIECES = 512  # pieces of a body that are compared
_CONVERSATIONS = 2000


class PromptCacheMonitor:
    """The newest request bodies by conversation, as checksums."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[str, str], tuple[list[int], list[int]]] = OrderedDict()

    def share(self, conversation: tuple[str, str], came: bytes, sent: bytes) -> float | None:
        """How much of the beginning that two consecutive requests of the client share is also shared by the requests
        sent upstream: 0 to 1. None if there is nothing to compare."""
        now = (_pieces(came), _pieces(sent))
        before = self._bodies.pop(conversation, None)
        self._bodies[conversation] = now
        if len(self._bodies) > _CONVERSATIONS:
            self._bodies.popitem(last=False)
        if before is None:
            return None
        without, with_memory = (_common(old, new) for old, new in zip(before, now, strict=True))
        return min(1.0, with_memory / without) if without else None


def _pieces(body: bytes) -> list[int]:
    end = min(len(body) // _PIECE, _MAX_COMPARED_PIECES) * _PIECE
    return [zlib.crc32(body[begin : begin + _PIECE]) for begin in range(0, end, _PIECE)]


def _common(old: list[int], new: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
