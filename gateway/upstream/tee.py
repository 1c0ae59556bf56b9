"""Tee: parses a copy of an answer while its bytes are forwarded unchanged. Pure.

A compressed stream is parsed through its own decoder. One that cannot be decoded here (br, zstd) is forwarded as well
and counts as complete at its end.
"""

import json
import re
import zlib
from collections.abc import Mapping

import orjson

from gateway.formats.base import Answer, Reader

__all__ = ["Decoder", "Tee", "complaint", "decoder_of", "looks_like_json", "wrap_error"]

_MAX_DECODED = 64 * 2**20
_OBJECTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{")
_EXCERPT = 200
_WITH_HEADER = zlib.MAX_WBITS | 32  # detects a zlib or gzip header
_HEADER = 2  # bytes of a zlib header


class Decoder:
    """Decodes a content encoding: gzip with one or several members (RFC 1952), deflate with or without the zlib
    header, since servers send either (RFC 9110, 8.4.1.2). `can_decode` is false for encodings that the standard library
    does not support."""

    def __init__(self, encoding: str) -> None:
        self.can_decode = encoding in ("", "identity", "gzip", "x-gzip", "deflate")
        is_plain = encoding in ("", "identity")
        self._inflate = None if is_plain or not self.can_decode else zlib.decompressobj(_WITH_HEADER)
        self._may_be_raw = encoding == "deflate"
        self._prefix = b""  # the first bytes, kept until a zlib header was decoded

    def feed(self, chunk: bytes) -> bytes:
        """Decode the next chunk. Raises ValueError if it does not match the content encoding or is too large."""
        if not self.can_decode:
            return b""
        if self._inflate is None:
            return chunk
        decoded = bytearray()
        while chunk:
            decoded += self._decompress(self._inflate, chunk, _MAX_DECODED - len(decoded))
            if self._inflate.unconsumed_tail or len(decoded) >= _MAX_DECODED:
                raise ValueError("a compressed answer is too large to be read along")
            chunk = self._inflate.unused_data.lstrip(b"\0")  # the next member, after padding
            if self._inflate.eof and chunk:
                self._inflate = zlib.decompressobj(_WITH_HEADER)
        return bytes(decoded)

    def _decompress(self, inflate: "zlib._Decompress", chunk: bytes, most: int) -> bytes:
        """At most `most` decompressed bytes; falls back to raw deflate if there is no zlib header."""
        try:
            decoded = inflate.decompress(chunk, max(1, most))
        except zlib.error as error:
            if not self._may_be_raw:
                raise ValueError("a compressed answer is damaged") from error
            self._may_be_raw = False
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._decompress(self._inflate, self._prefix + chunk, most)
        if self._may_be_raw:
            self._prefix += chunk
            self._may_be_raw = len(self._prefix) < _HEADER
        return decoded

    def whole(self, body: bytes) -> bytes | None:
        """Decode a whole body; None if the encoding is not supported, or the body is damaged or truncated."""
        if not self.can_decode:
            return None
        try:
            decoded = self.feed(body)
        except ValueError:
            return None
        return None if self._inflate is not None and body and not self._inflate.eof else decoded


def decoder_of(headers: Mapping[str, str]) -> Decoder:
    """The decoder for the content encoding of an answer."""
    return Decoder(headers.get("content-encoding", "").strip().lower())


class Tee:
    """Feeds a decoded copy of an answer to a format reader."""

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
        """Parse the next chunk. Raises ValueError if a compressed stream is damaged."""
        self._reader.feed(self._decoder.feed(chunk))

    def end(self) -> None:
        self._is_over = True
        self._reader.end()

    def answer(self) -> Answer:
        return self._reader.answer()


def looks_like_json(body: bytes) -> bool:
    """True for JSON, also as lenient parsers accept it: lone surrogates, NaN, a byte order mark, invalid UTF-8. A body
    that the strict parser rejects takes ten times as long."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            json.loads(body.decode("utf-8-sig", "replace"), strict=False)
        except (ValueError, RecursionError):
            return False
    return True


def complaint(status: int, body: bytes, upstream: str) -> str | None:
    """The error message that replaces an upstream's error body; None if the body is a JSON object, or a list of objects
    as Gemini writes it, and can be forwarded unchanged."""
    if _OBJECTS.match(body) is not None and looks_like_json(body):
        return None
    excerpt = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]
    return f"the upstream {upstream} answered {status} without a JSON error" + (f": {excerpt}" if excerpt else "")


def wrap_error(status: int, body: bytes, upstream: str) -> bytes | None:
    """An OpenAI error that replaces an error body without a JSON object; None if the body can stay as it is."""
    message = complaint(status, body, upstream)
    if message is None:
        return None
    error = {"message": message, "type": "upstream_error", "param": None, "code": "upstream_error"}
    return orjson.dumps({"error": error})
