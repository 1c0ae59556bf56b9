"""Ids of tool calls that Anthropic's format takes: `^[a-zA-Z0-9_-]+$`. Pure.

Other servers write ids such as `call:1.2/é`. One that does not fit is encoded in a way that can be undone, so that a
call and its result keep the same id on both sides, whoever sends them back.
"""

import base64
import re
from typing import Any

__all__ = ["fitting_id", "original_id"]

_FITS = re.compile(r"[a-zA-Z0-9_-]+\Z")
_PREFIX = "gwid_"


def fitting_id(id_: Any) -> str:
    """The id as Anthropic's format takes it."""
    text = id_ if isinstance(id_, str) else "" if id_ is None else str(id_)
    if _FITS.match(text) and not text.startswith(_PREFIX):
        return text
    return _PREFIX + base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def original_id(id_: Any) -> Any:
    """The id that `fitting_id` was given; any other value as it is."""
    if not isinstance(id_, str) or not id_.startswith(_PREFIX):
        return id_
    encoded = id_.removeprefix(_PREFIX)
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        text = raw.decode("utf-8", "surrogatepass")
    except ValueError:
        return id_
    return text if fitting_id(text) == id_ else id_
