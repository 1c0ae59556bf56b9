"""SQL conditions for LanceDB, and conversion of its errors.

User text never becomes part of a condition: a scope is 64 hex characters, an id is 32.
"""

import asyncio
import re
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar, cast

from gateway.storage.errors import StorageError, failure_name

__all__ = ["begins_with", "gathered", "guarded", "has_id", "hex_of", "is_of", "short"]

_T = TypeVar("_T")
_HEX = re.compile(r"^[0-9a-f]{64}\Z")
_PREFIX = re.compile(r"^[0-9a-f]{4,31}\Z")
_ID = re.compile(r"^[0-9a-f]{32}\Z")
_OUTAGES = ("No space left", "os error 28", "Generic S3 error")


async def guarded(awaitable: Any, timeout: float | None = None) -> Any:
    """The result of an operation of LanceDB. Raises StorageError for all its errors, and after the timeout."""
    try:
        if timeout is None:
            return await awaitable
        async with asyncio.timeout(timeout):
            return await awaitable
    except StorageError:
        raise
    except TimeoutError as error:
        raise StorageError("store", f"no answer within {timeout or 0:g} seconds", is_outage=True) from error
    except Exception as error:
        text = str(error)
        is_outage = any(sign in text for sign in _OUTAGES)
        raise StorageError("store", short(error), is_outage=is_outage) from error


async def gathered(reads: Iterable[Awaitable[_T]]) -> list[_T]:
    """The results of reads. If one fails, all have ended: a table that is closed while it is read ends in a panic."""
    results = await asyncio.gather(*reads, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[_T]", results)


def short(error: BaseException) -> str:
    return f"{failure_name(error)}: {str(error).splitlines()[0][:200] if str(error) else ''}"


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
