"""Parses numbers in the gateway's own request headers."""

import contextlib
import re
from collections.abc import Mapping

from gateway.errors import BadRequest

__all__ = ["header_number", "header_share"]

_SHARE = re.compile(r"[01]?\.\d{1,20}|[01]", re.ASCII)


def header_number(headers: Mapping[str, str], name: str, maximum: int) -> int | None:
    """Parse an integer header, 0 to `maximum`; None if the header is missing. Raises BadRequest."""
    value = headers.get(name)
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        if value.isascii() and value.isdigit() and 0 <= int(value) <= maximum:
            return int(value)
    raise BadRequest(f"{name} must be a whole number from 0 to {maximum}", param=name)


def header_share(headers: Mapping[str, str], name: str) -> float | None:
    """Parse a header with a number from 0 to 1; None if the header is missing. Raises BadRequest."""
    value = headers.get(name)
    if value is None:
        return None
    if _SHARE.fullmatch(value.strip()) and float(value) <= 1:
        return float(value)
    raise BadRequest(f"{name} must be a number from 0 to 1, such as 0.5", param=name)
