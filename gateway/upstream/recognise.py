"""Recognises a stream of events by its first bytes, where its content type says something else."""

from collections.abc import AsyncGenerator, Mapping

from gateway.upstream.client import Incoming

__all__ = ["recognised"]

_STREAM = "text/event-stream"
_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
_ENOUGH = 6  # bytes that tell
_MOST = 4096  # bytes of white space that are waited through


async def recognised(incoming: Incoming) -> Incoming:
    """The same answer; with the content type of a stream where it begins like one. Raises what reading it raises."""
    kind = incoming.headers.get("content-type", "").lower()
    if incoming.status >= 400 or kind.startswith(_STREAM) or _is_encoded(incoming):
        return incoming
    chunks = incoming.chunks()
    head = b""
    try:
        while len(head.lstrip()) < _ENOUGH and len(head) < _MOST:
            chunk = await anext(chunks, None)
            if chunk is None:
                break
            head += chunk
    except BaseException:
        incoming.close()
        raise
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return _Opened(incoming, head, chunks, is_stream=begin.startswith(_BEGINNINGS))


def _is_encoded(incoming: Incoming) -> bool:
    return incoming.headers.get("content-encoding", "").strip().lower() not in ("", "identity")


class _Opened:
    """An answer whose first bytes were read already."""

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
