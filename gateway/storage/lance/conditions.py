"""SQL conditions for LanceDB, and the error that its failures are raised as.

User text never becomes part of a condition: a scope is 64 hex characters, an id is 32.
"""

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["StoreFailed", "begins_with", "guarded", "has_id", "hex_of", "is_of", "short"]

_HEX = re.compile(r"^[0-9a-f]{64}\Z")
_PREFIX = re.compile(r"^[0-9a-f]{4,31}\Z")
_ID = re.compile(r"^[0-9a-f]{32}\Z")


class StoreFailed(Exception):
    """An operation of LanceDB failed. Rows to write stay in the journal. `is_outage`: the whole store is unavailable,
    so that any other operation would have failed too."""

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
    """The condition for rows with these ids; malformed ids are skipped. Empty if no id is left."""
    ids = [f"'{id_}'" for id_ in memory_ids if _ID.match(id_)]
    return f"id IN ({','.join(ids)})" if ids else ""


def begins_with(prefix: str) -> str:
    """The condition for rows whose id begins with 4 to 31 hexadecimal digits; empty for anything else."""
    return f"id LIKE '{prefix}%'" if _PREFIX.match(prefix) else ""


def hex_of(scope: str) -> str:
    if not _HEX.match(scope):
        raise ValueError("a scope is 64 hex characters")
    return scope
