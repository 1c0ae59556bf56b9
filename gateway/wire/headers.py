"""Numbers in headers of our own."""

import contextlib
import re
from collections.abc import Mapping

from gateway.errors import BadRequest

__all__ = ["header_number", "header_share"]

_SHARE = re.compile(r"[01]?\.\d{1,20}|[01]", re.ASCII)


def header_number(headers: Mapping[str, str], name: str, most: int) -> int | None:
    """A whole number of a header, 0 to `most`; None if the header is not there. Raises BadRequest."""
    value = headers.get(name)
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        if value.isascii() and value.isdigit() and 0 <= int(value) <= most:
            return int(value)
    raise BadRequest(f"{name} must be a whole number from 0 to {most}", param=name)


def header_share(headers: Mapping[str, str], name: str) -> float | None:
    """A number from 0 to 1 of a header; None if the header is not there. Raises BadRequest."""
    value = headers.get(name)
    if value is None:
        return None
    if _SHARE.fullmatch(value.strip()) and float(value) <= 1:
        return float(value)
    raise BadRequest(f"{name} must be a number from 0 to 1, such as 0.5", param=name)
