"""Converts tool call ids to the characters that Anthropic's format allows: `^[a-zA-Z0-9_-]+$`. Pure.

Other servers use ids such as `call:1.2/é`. Those are encoded reversibly, so that a call and its result keep the same id
on both sides, no matter which client returns them.
"""

import base64
import re
from typing import Any

__all__ = ["fitting_id", "original_id"]

_FITS = re.compile(r"[a-zA-Z0-9_-]+\Z")
_PREFIX = "gwid_"


def fitting_id(id_: Any) -> str:
    """Encode an id for Anthropic's format; a valid one without the prefix of encoded ids stays unchanged."""
    text = id_ if isinstance(id_, str) else "" if id_ is None else str(id_)
    if _FITS.match(text) and not text.startswith(_PREFIX):
        return text
    return _PREFIX + base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def original_id(id_: Any) -> Any:
    """Decode an id that `fitting_id` encoded; any other value stays unchanged."""
    if not isinstance(id_, str) or not id_.startswith(_PREFIX):
        return id_
    encoded = id_.removeprefix(_PREFIX)
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        text = raw.decode("utf-8", "surrogatepass")
    except ValueError:
        return id_
    return text if fitting_id(text) == id_ else id_
