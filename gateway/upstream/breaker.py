"""When an upstream is left alone, and when it gets its traffic back. Pure: time comes in as an argument.

closed ── 5 failures in a row, or half of the last 20 ──> open ── after 10 s ──> half open: one probe
   ^                                                        ^                        │
   └───────────────────────── it answered ─────────────────────────┴──── it failed ──────────┘
"""

from collections import deque

__all__ = ["Breaker"]

_IN_A_ROW = 5
_OF_THE_LAST = 20
_SHARE = 0.5
_REST = 10.0  # seconds
_PROBE_TIME = 30.0  # seconds after which a probe that was never heard of again is given up


class Breaker:
    """`now` is in seconds on any clock that does not go back."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=_OF_THE_LAST)
        self._opened_at: float | None = None
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        """True from the failure that was too many until a probe succeeds."""
        return self._opened_at is not None

    def allows(self, now: float) -> bool:
        """True if a request may go there: it is closed, or has rested and no probe is on its way."""
        if self._opened_at is None:
            return True
        if now - self._opened_at < _REST:
            return False
        return self._probe_at is None or now - self._probe_at >= _PROBE_TIME

    def asked(self, now: float) -> None:
        """A request goes there now; where it is half open, that is the probe."""
        if self._opened_at is not None:
            self._probe_at = now

    def not_asked(self) -> None:
        """What was on its way did not come there: the next one may try."""
        self._probe_at = None

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._probe_at = None
        if self._opened_at is not None:
            self._opened_at = None
            self._last.clear()
        self._last.append(True)

    def failed(self, now: float) -> None:
        self._in_a_row += 1
        self._last.append(False)
        half_failed = len(self._last) == _OF_THE_LAST and self._last.count(False) >= _SHARE * _OF_THE_LAST
        if self._opened_at is not None or self._in_a_row >= _IN_A_ROW or half_failed:
            self._opened_at = now
            self._probe_at = None
