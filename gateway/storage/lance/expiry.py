"""Retention queries over all scopes in LanceDB: memories that expired or exceed a limit. Raises StorageError.

Each process looks at the buckets that it owns. Those that have nothing to find, as far as the catalog knows their
counts and oldest rows, are not opened.
"""

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime

from gateway.memory.kinds import kind_of
from gateway.memory.record import Record
from gateway.storage.lance.buckets import Buckets
from gateway.storage.lance.conditions import guarded
from gateway.storage.rows import LoadedRows
from gateway.text.form import FEATURES, FORM_BITS
from gateway.text.worth import TASK_WORTH

__all__ = ["crowded", "older", "stale"]

_HEX = re.compile(r"[0-9a-f]+")
_WORD = re.compile(r"[a-z]+")
_ID_BATCH = 500


def _feature(name: str) -> str:
    """SQL expression for a feature of a packed form; 0 where a text lacks it."""
    return f"(form >> {FEATURES.index(name) * FORM_BITS}) % {2**FORM_BITS}"


_HANDS_OVER = " OR ".join(f"{_feature(name)} > 0" for name in ("asks", "orders", "code"))
_IS_ABOUT_USER = " OR ".join(f"{_feature(name)} > 0" for name in ("has_self", "refers_back"))
_IS_TASK = (
    f"kind = 'turn' AND form >= 0 AND worth < {TASK_WORTH}"
    f" AND (source != 'user' OR (({_HANDS_OVER}) AND NOT ({_IS_ABOUT_USER})))"
)


async def older(buckets: Buckets, kind: str, before: float, limit: int) -> list[Record]:
    """Up to `limit` memories of a kind that were created before a moment (seconds since 1970). The kind `task`:
    messages that hand over a task and say nothing about the user, and the generic answers to them."""
    if not _WORD.fullmatch(kind):
        raise ValueError("a kind is a word")
    is_kind = _IS_TASK if kind == "task" else f"kind = '{kind}'"
    condition = f"{is_kind} AND status != 'deleted' AND created_at < TIMESTAMP '{_sql_time(before)}'"
    records: list[Record] = []
    for number in buckets.owned:
        if all(entry.oldest >= before for entry in buckets[number].entries):
            continue
        tables = await buckets.read(number, condition, ["id"])
        ids = sorted({id_ for table in tables for id_ in table.column("id").to_pylist()})
        for begin in range(0, len(ids), _ID_BATCH):
            # all versions of each: the newest may be a deletion
            versions = await buckets.read(number, _in_condition("id", ids[begin : begin + _ID_BATCH]))
            records += await asyncio.to_thread(LoadedRows(versions).records)
            if len(records) >= limit:
                return records[:limit]
    return records


async def crowded(buckets: Buckets, most: int, limit: int) -> list[Record]:
    """Up to `limit` of the oldest memories of scopes that have more than `most`."""
    records: list[Record] = []
    for number in buckets.owned:
        if 0 <= buckets[number].rows <= most:
            continue
        for scope in await _list_crowded_scopes(buckets, number, most):
            tables = await buckets.read(number, _in_condition("scope", [scope]))
            members = await asyncio.to_thread(LoadedRows(tables).records)
            members.sort(key=_is_standing_preference)  # the oldest first, active standing preferences last
            records += members[: max(0, len(members) - most)]
            if len(records) >= limit:
                return records[:limit]
    return records


async def _list_crowded_scopes(buckets: Buckets, number: int, most: int) -> list[str]:
    """The scopes of a bucket that have more than `most` rows."""
    counts = Counter[str]()
    for table in await buckets.read(number, None, ["scope"]):
        counts.update(table.column("scope").to_pylist())
    return [scope for scope, count in counts.items() if count > most]


async def stale(buckets: Buckets, before: float) -> list[int]:
    """Buckets whose files still hold texts that were deleted or changed before a moment (seconds since 1970): the newer
    versions are in the growing table, the outdated ones in an earlier table."""
    condition = f"version > 1 AND updated_at < TIMESTAMP '{_sql_time(before)}'"
    return [number for number in buckets.owned if await _count_growing(buckets, number, condition, before)]


async def _count_growing(buckets: Buckets, number: int, condition: str, before: float) -> int:
    """Count rows of a bucket's growing tables (several after an aborted rebuild) that changed before a moment."""
    if all(entry.is_settled or entry.changed_at >= before for entry in buckets[number].entries):
        return 0
    bucket = await buckets.ready(number)
    growing = [table for entry, table in bucket.tables if not entry.is_settled]
    return sum([await guarded(table.count_rows(condition), buckets.place.read_timeout) for table in growing])


def _sql_time(at: float) -> str:
    """Format a moment for LanceDB; earlier moments count as 1970."""
    return datetime.fromtimestamp(max(0.0, at), UTC).isoformat()


def _is_standing_preference(record: Record) -> bool:
    is_preference = kind_of(record.kind).is_of_profile and record.status == "activated"
    return is_preference and bool(record.details.is_standing)


def _in_condition(column: str, values: list[str]) -> str:
    return f"{column} IN ({','.join(repr(value) for value in values if _HEX.fullmatch(value))})"
