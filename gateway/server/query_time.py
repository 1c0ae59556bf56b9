"""Parses points in time in query strings. Pure."""

import contextlib
from datetime import UTC, datetime

from gateway.errors import BadRequest

__all__ = ["moment_in"]

_LAST = 2**37  # the year 6325


def moment_in(text: str | None, default: float, name: str) -> float:
    """Parse seconds since 1970 or an ISO 8601 date or time (UTC without a zone). Raises BadRequest."""
    if not text:
        return default
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < _LAST:
            return seconds
        raise BadRequest(f"{name} must be seconds since 1970", param=name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{name} must be a date, a time or seconds since 1970", param=name) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
