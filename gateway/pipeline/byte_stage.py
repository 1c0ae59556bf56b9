"""The stages that the bytes of a stream pass: filters that may change them, then observers. Pure."""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.formats.base import Reader
from gateway.upstream.decoder import Decoder

__all__ = ["ByteFilter", "ByteObserver", "ByteStage", "DecodedObserver", "IdObserver", "SentBytes"]


class ByteFilter(Protocol):
    """Changes the bytes of a stream. It may withhold bytes until later."""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to pass on now."""
        ...

    def end(self) -> bytes:
        """The withheld bytes, at the end of the stream."""
        ...


class ByteObserver(Protocol):
    """Observes the bytes of a stream without changing them."""

    def feed(self, chunk: bytes) -> None:
        """Observe the next bytes. Raises ValueError if the stream cannot be read."""
        ...

    def end(self) -> None:
        """Signal the end of the bytes."""
        ...


class ByteStage:
    """Filters, in order, and the observers of the bytes that leave the last of them. A filter itself."""

    def __init__(self, filters: Sequence[ByteFilter] = (), observers: Sequence[ByteObserver] = ()) -> None:
        self._filters = filters
        self._observers = observers

    def feed(self, chunk: bytes) -> bytes:
        for byte_filter in self._filters:
            chunk = byte_filter.feed(chunk)
        for observer in self._observers:
            observer.feed(chunk)
        return chunk

    def end(self) -> bytes:
        rest = b""
        for byte_filter in self._filters:
            rest = (byte_filter.feed(rest) if rest else b"") + byte_filter.end()
        for observer in self._observers:
            observer.feed(rest)
            observer.end()
        return rest


class DecodedObserver:
    """Passes the decoded bytes of a compressed stream to an observer; none if the encoding is not supported."""

    def __init__(self, observer: ByteObserver, decoder: Decoder) -> None:
        self._observer = observer
        self._decoder = decoder

    def feed(self, chunk: bytes) -> None:
        self._observer.feed(self._decoder.feed(chunk))

    def end(self) -> None:
        self._observer.end()


class IdObserver:
    """Reports the upstream's id of an answer once, as soon as `reader`, an earlier observer, knows it."""

    def __init__(self, reader: Reader, report: Callable[[str], None]) -> None:
        self._reader = reader
        self._report: Callable[[str], None] | None = report

    def feed(self, chunk: bytes) -> None:
        if self._report is not None and self._reader.id is not None:
            self._report(self._reader.id)
            self._report = None

    def end(self) -> None:
        """The last bytes were fed already."""


class SentBytes:
    """Keeps the bytes of a stream, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._chunks: list[bytes] = []

    @property
    def body(self) -> bytes | None:
        """All bytes; None if there are none, or more than the limit."""
        return b"".join(self._chunks) if self._chunks and self._room >= 0 else None

    def feed(self, chunk: bytes) -> None:
        if self._room < 0 or not chunk:
            return
        self._chunks.append(chunk)
        self._room -= len(chunk)
        if self._room < 0:
            self._chunks.clear()

    def end(self) -> None:
        """Nothing is withheld."""
