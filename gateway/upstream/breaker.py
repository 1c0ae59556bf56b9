"""Circuit breaker for one upstream. Pure: time comes in as an argument.

closed ── 5 failures in a row, or half of the last 20 ──> open ── after 10 s ──> half open: one probe
   ^                                                        ^                        │
   └───────────────────────── it answered ─────────────────────────┴──── it failed ──────────┘
"""

from collections import deque

__all__ = ["Breaker"]

_CONSECUTIVE = 5
_WINDOW = 20
_FAILED_SHARE = 0.5
_REST = 10.0  # seconds
_PROBE_TIME = 30.0  # seconds after which a probe without a result counts as lost


class Breaker:
    """Circuit breaker of one upstream. `now` is in seconds on any monotonic clock."""

    def __init__(self) -> None:
        self._consecutive = 0
        self._outcomes: deque[bool] = deque(maxlen=_WINDOW)  # True for a success
        self._opened_at: float | None = None
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        """True from the failure that trips the breaker until a probe succeeds."""
        return self._opened_at is not None

    def allows(self, now: float) -> bool:
        """True if a request may be sent: the breaker is closed, or half open without a probe in flight."""
        if self._opened_at is None:
            return True
        if now - self._opened_at < _REST:
            return False
        return self._probe_at is None or now - self._probe_at >= _PROBE_TIME

    def asked(self, now: float) -> None:
        """Record that a request is sent; while the breaker is open, it is the probe."""
        if self._opened_at is not None:
            self._probe_at = now

    def not_asked(self) -> None:
        """Record that a request was abandoned without a result: the next one may be the probe."""
        self._probe_at = None

    def succeeded(self) -> None:
        self._consecutive = 0
        self._probe_at = None
        if self._opened_at is not None:
            self._opened_at = None
            self._outcomes.clear()
        self._outcomes.append(True)

    def failed(self, now: float) -> None:
        self._consecutive += 1
        self._outcomes.append(False)
        half_failed = len(self._outcomes) == _WINDOW and self._outcomes.count(False) >= _FAILED_SHARE * _WINDOW
        if self._opened_at is not None or self._consecutive >= _CONSECUTIVE or half_failed:
            self._opened_at = now
            self._probe_at = None
