"""Conditions and errors of LanceDB.

No text of a user ever becomes part of a condition: a scope is 64 hex characters, an id is 32.
"""

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["StoreFailed", "begins_with", "guarded", "has_id", "hex_of", "is_of", "short"]

_HEX = re.compile(r"^[0-9a-f]{64}\Z")
_PREFIX = re.compile(r"^[0-9a-f]{4,31}\Z")
_ID = re.compile(r"^[0-9a-f]{32}\Z")


class StoreFailed(Exception):
    """LanceDB did not do it. The journal keeps what was to be written. `is_outage`: it would not have done anything
    else either."""

    def __init__(self, message: str, *, is_outage: bool = False) -> None:
        super().__init__(message)
        self.is_outage = is_outage


async def guarded(awaitable: Any) -> Any:
    try:
        return await awaitable
    except Exception as error:
        text = str(error)
        raise StoreFailed(short(error), is_outage="No space left" in text or "os error 28" in text) from error


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def is_of(scope: str) -> str:
    return f"scope = '{hex_of(scope)}'"


def has_id(memory_ids: Iterable[str]) -> str:
    """The condition for rows of these ids; what is no id is passed over, and of none there is no condition."""
    ids = [f"'{id_}'" for id_ in memory_ids if _ID.match(id_)]
    return f"id IN ({','.join(ids)})" if ids else ""


def begins_with(prefix: str) -> str:
    """The condition for rows whose id begins with 4 to 31 hexadecimal digits; empty for anything else."""
    return f"id LIKE '{prefix}%'" if _PREFIX.match(prefix) else ""


def hex_of(scope: str) -> str:
    if not _HEX.match(scope):
        raise ValueError("a scope is 64 hex characters")
    return scope
