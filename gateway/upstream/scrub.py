"""What upstreams say, without our keys, should one repeat them. Pure."""

from collections.abc import Sequence

__all__ = ["Scrubber", "scrubbed"]

_KEY = b"[key]"


def scrubbed(text: bytes, secrets: Sequence[bytes]) -> bytes:
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, _KEY)
    return text


class Scrubber:
    """For a stream: a key may be cut anywhere, so bytes that could begin one wait for those that follow. An event ends
    with an empty line, and no key has one in it: as a rule nothing waits."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on."""
        if not self._secrets:
            return chunk
        text = scrubbed(self._held + chunk, self._secrets)
        waiting = 0 if text.endswith(b"\n") else max(_begun(text, secret) for secret in self._secrets)
        self._held = text[len(text) - waiting :]
        return text[: len(text) - waiting]

    def end(self) -> bytes:
        rest, self._held = self._held, b""
        return rest


def _begun(text: bytes, secret: bytes) -> int:
    """How many bytes at the end may be the beginning of a secret."""
    longest = min(len(text), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)
