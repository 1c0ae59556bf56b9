"""Parses points in time that clients send. Pure."""

import contextlib
from datetime import UTC, datetime

from gateway.errors import BadRequest

__all__ = ["moment_in", "storable_moment_in"]

_LAST = 2**37  # the year 6325
_FIRST_STORABLE, _LAST_STORABLE = -6e10, 2e11  # the range of a table's timestamps: years 68 to 8307


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


def storable_moment_in(text: str | None, default: float, name: str) -> float:
    """Parse a moment that is to be stored, as `moment_in` does. Raises BadRequest."""
    moment = moment_in(text, default, name)
    if not _FIRST_STORABLE <= moment <= _LAST_STORABLE:
        raise BadRequest(f"{name} must be between the years 69 and 8307", param=name)
    return moment
