"""Reads the field `model` of a forwarded multipart form, such as an audio file to be transcribed.

The form is buffered only up to the end of that field; the rest streams through.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

__all__ = ["MultipartForm", "read_form"]

_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,200})"|([^;,\s]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?;\s*name="?model"?\s*(?:;|$)', re.IGNORECASE | re.MULTILINE)
_MAX_MODEL_BYTES = 512  # bytes of a model's name


@dataclass(frozen=True, slots=True)
class MultipartForm:
    """A form whose beginning is buffered in `head`. `model` is None without such a field, else `head[begin:end]`."""

    head: bytes
    rest: AsyncIterator[bytes]
    model: str | None = None
    begin: int = 0
    end: int = 0

    async def pieces(self, model: str | None = None) -> AsyncIterator[bytes]:
        """Yield the whole form, with the model renamed to `model` if that is not None."""
        yield self.head if model is None else self.head[: self.begin] + model.encode() + self.head[self.end :]
        async for piece in self.rest:
            yield piece

    def growth(self, model: str) -> int:
        """Number of bytes by which the form grows with this name for its model."""
        return len(model.encode()) - (self.end - self.begin)


async def read_form(
    content_type: str, pieces: AsyncIterator[bytes], take_bytes: Callable[[int], None]
) -> MultipartForm:
    """Read the form of a body that arrives in `pieces`; `take_bytes` counts the buffered bytes.

    Exceptions of both propagate.
    """
    match = _BOUNDARY.search(content_type)
    if match is None:  # left to the upstream to refuse
        return MultipartForm(b"", pieces)
    boundary = b"--" + (match[1] or match[2]).encode("latin-1", "replace")
    head = bytearray()
    part = 0  # start of the current part
    searched = 0  # the part does not end before this offset
    async for piece in pieces:
        take_bytes(len(piece))
        head += piece
        while True:
            end = head.find(b"\r\n" + boundary, max(searched, part))
            if end < 0:
                searched = max(part, len(head) - len(boundary) - 1)  # a boundary may be split between two pieces
                break
            body = head.find(b"\r\n\r\n", part, end)
            value = slice(body + 4, end)
            if body >= 0 and value.stop - value.start <= _MAX_MODEL_BYTES and _NAME.search(bytes(head[part:body])):
                model = bytes(head[value]).decode("utf-8", "replace").strip()
                return MultipartForm(bytes(head), pieces, model or None, value.start, value.stop)
            part = searched = end + 2
    return MultipartForm(bytes(head), pieces)
