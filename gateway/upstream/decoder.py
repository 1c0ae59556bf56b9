"""Incremental decoder of the content encodings of upstreams' answers. Pure."""

import zlib
from collections.abc import Mapping

__all__ = ["Decoder", "decoder_of"]

_MAX_DECODED = 64 * 2**20
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
