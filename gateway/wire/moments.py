"""Moments as people write them in a query string. Pure."""

import contextlib
from datetime import UTC, datetime

from gateway.errors import BadRequest

__all__ = ["moment_in"]

_LAST = 2**37  # the year 6325


def moment_in(text: str | None, default: float, name: str) -> float:
    """Seconds since 1970, or a date or time in ISO's form (UTC where it names no zone). Raises BadRequest."""
    if not text:
        return default
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < _LAST:
            return seconds
        raise BadRequest(f"{name} must be seconds since 1970", param=name)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{name} must be a date, a time or seconds since 1970", param=name) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
