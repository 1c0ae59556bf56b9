"""Reads the field `model` of a form that is passed on, such as an audio file to be transcribed.

Only as much of the form is held as stands before the end of that field; the rest streams through.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

__all__ = ["Form", "read_form"]

_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,200})"|([^;,\s]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?;\s*name="?model"?\s*(?:;|$)', re.IGNORECASE | re.MULTILINE)
_LONGEST = 512  # bytes of a model's name


@dataclass(frozen=True, slots=True)
class Form:
    """A form whose beginning was read: `model` is None if it has no such field, else it stands in `head` from `begin`
    to `end`."""

    head: bytes
    rest: AsyncIterator[bytes]
    model: str | None = None
    begin: int = 0
    end: int = 0

    async def pieces(self, model: str | None = None) -> AsyncIterator[bytes]:
        """The whole form, with another name for the model if one is given."""
        yield self.head if model is None else self.head[: self.begin] + model.encode() + self.head[self.end :]
        async for piece in self.rest:
            yield piece

    def growth(self, model: str) -> int:
        """How many bytes longer the form is with this name for its model."""
        return len(model.encode()) - (self.end - self.begin)


async def read_form(content_type: str, pieces: AsyncIterator[bytes], take_bytes: Callable[[int], None]) -> Form:
    """The form of a body that comes in `pieces`; `take_bytes` counts what is held. Raises what both of them raise."""
    match = _BOUNDARY.search(content_type)
    if match is None:  # the upstream's to refuse
        return Form(b"", pieces)
    mark = b"--" + (match[1] or match[2]).encode("latin-1", "replace")
    head = bytearray()
    part = 0  # where the part begins that is looked at
    searched = 0  # the end of that part is not before
    async for piece in pieces:
        take_bytes(len(piece))
        head += piece
        while True:
            end = head.find(b"\r\n" + mark, max(searched, part))
            if end < 0:
                searched = max(part, len(head) - len(mark) - 1)  # a mark may be cut between two pieces
                break
            body = head.find(b"\r\n\r\n", part, end)
            value = slice(body + 4, end)
            if body >= 0 and value.stop - value.start <= _LONGEST and _NAME.search(bytes(head[part:body])):
                model = bytes(head[value]).decode("utf-8", "replace").strip()
                return Form(bytes(head), pieces, model or None, value.start, value.stop)
            part = searched = end + 2
    return Form(bytes(head), pieces)
