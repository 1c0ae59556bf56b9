"""The tee: reads along while bytes pass, so that the answer is known when it ends. Pure.

It never changes a byte. A compressed stream is read through a decoder of its own; one that cannot be decoded here
(br, zstd) passes all the same, and its end is taken for whole.
"""

import json
import re
import zlib
from collections.abc import Mapping

import orjson

from gateway.dialect import Reader
from gateway.turn import Answer

__all__ = ["Decoder", "Tee", "complaint", "decoder_of", "looks_like_json", "wrap_error"]

_MAX_DECODED = 64 * 2**20
_OBJECTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{")
_EXCERPT = 200
_WITH_HEADER = zlib.MAX_WBITS | 32  # of zlib or gzip, whichever comes
_HEADER = 2  # bytes of zlib's


class Decoder:
    """Undoes a content encoding: gzip of one or several members (RFC 1952), deflate with and without the zlib header,
    which servers confuse (RFC 9110, 8.4.1.2). `can_decode` is false for encodings that are not in the standard
    library."""

    def __init__(self, encoding: str) -> None:
        self.can_decode = encoding in ("", "identity", "gzip", "x-gzip", "deflate")
        is_plain = encoding in ("", "identity")
        self._inflate = None if is_plain or not self.can_decode else zlib.decompressobj(_WITH_HEADER)
        self._may_be_raw = encoding == "deflate"
        self._held = b""  # the first bytes, until they were understood with a header

    def feed(self, chunk: bytes) -> bytes:
        """The bytes behind the next piece. Raises ValueError if they are not what the header said."""
        if not self.can_decode:
            return b""
        if self._inflate is None:
            return chunk
        decoded = bytearray()
        while chunk:
            decoded += self._inflated(self._inflate, chunk, _MAX_DECODED - len(decoded))
            if self._inflate.unconsumed_tail or len(decoded) >= _MAX_DECODED:
                raise ValueError("a compressed answer is too large to be read along")
            chunk = self._inflate.unused_data.lstrip(b"\0")  # the next member, after padding
            if self._inflate.eof and chunk:
                self._inflate = zlib.decompressobj(_WITH_HEADER)
        return bytes(decoded)

    def _inflated(self, inflate: "zlib._Decompress", chunk: bytes, most: int) -> bytes:
        try:
            decoded = inflate.decompress(chunk, max(1, most))
        except zlib.error as error:
            if not self._may_be_raw:
                raise ValueError("a compressed answer is damaged") from error
            self._may_be_raw = False
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._inflated(self._inflate, self._held + chunk, most)
        if self._may_be_raw:
            self._held += chunk
            self._may_be_raw = len(self._held) < _HEADER
        return decoded

    def whole(self, body: bytes) -> bytes | None:
        """A whole body; None if it cannot be decoded here, or is damaged or cut."""
        if not self.can_decode:
            return None
        try:
            decoded = self.feed(body)
        except ValueError:
            return None
        return None if self._inflate is not None and body and not self._inflate.eof else decoded


def decoder_of(headers: Mapping[str, str]) -> Decoder:
    return Decoder(headers.get("content-encoding", "").strip().lower())


class Tee:
    def __init__(self, reader: Reader, decoder: Decoder) -> None:
        self._reader = reader
        self._decoder = decoder
        self._is_over = False

    @property
    def is_complete(self) -> bool:
        return self._reader.is_complete or (self._is_over and not self._decoder.can_decode)

    @property
    def has_events(self) -> bool:
        return self._reader.has_events

    @property
    def has_error(self) -> bool:
        return self._reader.has_error

    @property
    def is_mid_event(self) -> bool:
        return self._reader.is_mid_event

    @property
    def id(self) -> str | None:
        return self._reader.id

    def feed(self, chunk: bytes) -> None:
        """Read along. Raises ValueError if a compressed stream is damaged."""
        self._reader.feed(self._decoder.feed(chunk))

    def end(self) -> None:
        self._is_over = True
        self._reader.end()

    def answer(self) -> Answer:
        return self._reader.answer()


def looks_like_json(body: bytes) -> bool:
    """True for JSON, also as lenient readers take it: lone surrogates, NaN, a mark of byte order, bytes that are no
    UTF-8. A body that strict readers refuse takes ten times as long."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            json.loads(body.decode("utf-8-sig", "replace"), strict=False)
        except (ValueError, RecursionError):
            return False
    return True


def complaint(status: int, body: bytes, upstream: str) -> str | None:
    """What to say instead of an error body that is no JSON object, or list of them as Gemini writes it; None if it is
    one and may stay as it is."""
    if _OBJECTS.match(body) is not None and looks_like_json(body):
        return None
    excerpt = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]
    return f"the upstream {upstream} answered {status} without a JSON error" + (f": {excerpt}" if excerpt else "")


def wrap_error(status: int, body: bytes, upstream: str) -> bytes | None:
    """An error body of an upstream that is no JSON object, as an OpenAI error; None if it may stay as it is."""
    message = complaint(status, body, upstream)
    if message is None:
        return None
    error = {"message": message, "type": "upstream_error", "param": None, "code": "upstream_error"}
    return orjson.dumps({"error": error})
