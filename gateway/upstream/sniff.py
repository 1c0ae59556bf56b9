"""Detects server-sent events by the first bytes of an answer whose content type is wrong."""

from collections.abc import AsyncGenerator, Mapping

from gateway.upstream.client import Incoming

__all__ = ["recognised"]

_STREAM = "text/event-stream"
_PREFIXES = (b"data:", b"event:", b"id:", b"retry:", b":")
_SUFFICIENT_BYTES = 6  # bytes that suffice to decide
_MAX_WHITESPACE = 4096  # bytes that are read at most to find the first other character


async def recognised(incoming: Incoming) -> Incoming:
    """The same answer, with the content type of an event stream if it begins like one.

    Raises the errors of `Incoming.chunks`.
    """
    kind = incoming.headers.get("content-type", "").lower()
    if incoming.status >= 400 or kind.startswith(_STREAM) or _is_encoded(incoming):
        return incoming
    chunks = incoming.chunks()
    head = b""
    try:
        while len(head.lstrip()) < _SUFFICIENT_BYTES and len(head) < _MAX_WHITESPACE:
            chunk = await anext(chunks, None)
            if chunk is None:
                break
            head += chunk
    except BaseException:
        incoming.close()
        raise
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return _PeekedIncoming(incoming, head, chunks, is_stream=begin.startswith(_PREFIXES))


def _is_encoded(incoming: Incoming) -> bool:
    return incoming.headers.get("content-encoding", "").strip().lower() not in ("", "identity")


class _PeekedIncoming:
    """An answer whose first bytes have already been read; `chunks` yields them first."""

    def __init__(self, incoming: Incoming, head: bytes, rest: AsyncGenerator[bytes], *, is_stream: bool) -> None:
        self.status = incoming.status
        self.headers: Mapping[str, str] = incoming.headers
        if is_stream:
            others = {name: value for name, value in incoming.headers.items() if name.lower() != "content-type"}
            self.headers = {**others, "content-type": _STREAM}
        self._incoming = incoming
        self._head = head
        self._rest = rest

    async def chunks(self) -> AsyncGenerator[bytes]:
        if self._head:
            yield self._head
        async for chunk in self._rest:
            yield chunk

    def close(self) -> None:
        self._incoming.close()
