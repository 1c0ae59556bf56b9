"""Removes the gateway's own keys from upstream answers, in case an upstream echoes them. Pure."""

from collections.abc import Sequence

__all__ = ["Scrubber", "scrubbed"]

_KEY = b"[key]"


def scrubbed(text: bytes, secrets: Sequence[bytes]) -> bytes:
    """The text with each secret replaced by `[key]`, longer ones first: one may begin with another."""
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, _KEY)
    return text


class Scrubber:
    """Removes secrets from a stream. A chunk boundary may split a key, so trailing bytes that could begin one are
    buffered until the next chunk. Events end with an empty line, which no key contains, so usually nothing is
    buffered."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._buffer = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can be forwarded now."""
        if not self._secrets:
            return chunk
        text = scrubbed(self._buffer + chunk, self._secrets)
        buffered = 0 if text.endswith(b"\n") else max(_partial_length(text, secret) for secret in self._secrets)
        self._buffer = text[len(text) - buffered :]
        return text[: len(text) - buffered]

    def end(self) -> bytes:
        """The buffered bytes, at the end of the stream."""
        rest, self._buffer = self._buffer, b""
        return rest


def _partial_length(text: bytes, secret: bytes) -> int:
    """The number of bytes at the end of the text that may be the beginning of a secret."""
    longest = min(len(text), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)
