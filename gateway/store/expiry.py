"""What has outlived its time, or is too much: asked of all scopes at once, in LanceDB. Raises StoreFailed."""

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime

from gateway.store.loaded import Loaded
from gateway.store.memories import MemoryStore
from gateway.text.form import FEATURES, FORM_BITS
from gateway.text.worth import TASK_WORTH
from gateway.turn import Record

__all__ = ["crowded", "older", "stale"]

_HEX = re.compile(r"[0-9a-f]+")
_WORD = re.compile(r"[a-z]+")
_IDS_AT_ONCE = 500


def _feature(name: str) -> str:
    """A feature of a packed form in SQL: 0 where a text has none of it."""
    return f"(form >> {FEATURES.index(name) * FORM_BITS}) % {2**FORM_BITS}"


_HANDS_OVER = " OR ".join(f"{_feature(name)} > 0" for name in ("asks", "orders", "code"))
_IS_ABOUT_USER = " OR ".join(f"{_feature(name)} > 0" for name in ("has_self", "refers_back"))
_IS_TASK = (
    f"kind = 'turn' AND form >= 0 AND worth < {TASK_WORTH}"
    f" AND (source != 'user' OR (({_HANDS_OVER}) AND NOT ({_IS_ABOUT_USER})))"
)


async def older(store: MemoryStore, kind: str, before: float, limit: int) -> list[Record]:
    """Some memories of a kind that were made before a moment (seconds since 1970). The kind `task`: messages that hand
    over a task and say nothing of the user, and the generic answers to them."""
    if not _WORD.fullmatch(kind):
        raise ValueError("a kind is a word")
    is_kind = _IS_TASK if kind == "task" else f"kind = '{kind}'"
    condition = f"{is_kind} AND status != 'deleted' AND created_at < TIMESTAMP '{_moment(before)}'"
    found: list[Record] = []
    for number in store.buckets:
        tables = await store.rows(number, condition, ["id"])
        ids = sorted({id_ for table in tables for id_ in table.column("id").to_pylist()})
        for begin in range(0, len(ids), _IDS_AT_ONCE):
            # all versions of each: the newest may be a deletion
            versions = await store.rows(number, _one_of("id", ids[begin : begin + _IDS_AT_ONCE]))
            found += await asyncio.to_thread(Loaded(versions).records)
            if len(found) >= limit:
                return found[:limit]
    return found


async def crowded(store: MemoryStore, most: int, limit: int) -> list[Record]:
    """Some of the oldest memories of scopes that have more than `most`."""
    found: list[Record] = []
    for number in store.buckets:
        for scope in await _larger(store, number, most):
            tables = await store.rows(number, _one_of("scope", [scope]))
            held = await asyncio.to_thread(Loaded(tables).records)
            held.sort(key=_is_standing)  # the oldest first, and wishes that hold last
            found += held[: max(0, len(held) - most)]
            if len(found) >= limit:
                return found[:limit]
    return found


async def _larger(store: MemoryStore, number: int, most: int) -> list[str]:
    """The scopes of a bucket that have more than `most` rows."""
    counts = Counter[str]()
    for table in await store.rows(number, None, ["scope"]):
        counts.update(table.column("scope").to_pylist())
    return [scope for scope, count in counts.items() if count > most]


async def stale(store: MemoryStore, before: float) -> list[int]:
    """Buckets whose files hold texts that were deleted or changed before a moment: their newer versions stand in the
    growing table, the older ones somewhere before them."""
    condition = f"version > 1 AND updated_at < TIMESTAMP '{_moment(before)}'"
    return [number for number in store.buckets if await store.count_grown(number, condition)]


def _moment(at: float) -> str:
    """A moment as LanceDB reads it; what lies before 1970 is as good as 1970."""
    return datetime.fromtimestamp(max(0.0, at), UTC).isoformat()


def _is_standing(record: Record) -> bool:
    is_wish = record.kind in ("preference", "profile") and record.status == "activated"
    return is_wish and bool(record.info.get("standing"))


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({','.join(repr(value) for value in values if _HEX.fullmatch(value))})"
