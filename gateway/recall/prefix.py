"""How much of a prompt's beginning stays what it was in the request before, with memories in it and without.

Providers keep the prompts they have seen and charge less for a beginning that they know. Compared are kilobytes of the
request bodies. Pure but for its memory of the newest conversations.
"""

import zlib
from collections import OrderedDict
from itertools import takewhile

__all__ = ["PrefixWatch"]

_PIECE = 1024  # bytes
_MOST = 512  # pieces of a body that are looked at
_CONVERSATIONS = 2000


class PrefixWatch:
    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[str, str], tuple[list[int], list[int]]] = OrderedDict()

    def share(self, conversation: tuple[str, str], came: bytes, sent: bytes) -> float | None:
        """Of the beginning that the client's request has in common with its request before, the share that what goes
        up has in common with what went up before: 0 to 1. None where there is nothing to compare."""
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
    end = min(len(body) // _PIECE, _MOST) * _PIECE
    return [zlib.crc32(body[begin : begin + _PIECE]) for begin in range(0, end, _PIECE)]


def _common(old: list[int], new: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
