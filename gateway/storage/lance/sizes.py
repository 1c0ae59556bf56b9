"""Counts the memories of scopes in LanceDB, by columns and without their texts."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.storage.lance.buckets import Buckets
from gateway.storage.lance.conditions import hex_of
from gateway.storage.values import ScopeSize

__all__ = ["scope_sizes"]

_COLUMNS = ("scope", "id", "version", "status", "updated_at")


async def scope_sizes(buckets: Buckets, scopes: Iterable[str]) -> dict[str, ScopeSize]:
    """The sizes of these scopes; those without rows are left out. Raises StorageError."""
    by_bucket: dict[int, list[str]] = defaultdict(list)
    for scope in scopes:
        by_bucket[buckets.number_of(scope)].append(hex_of(scope))
    sizes: dict[str, ScopeSize] = {}
    for number, members in by_bucket.items():
        condition = f"scope IN ({','.join(map(repr, members))})"
        tables = await buckets.read(number, condition, _COLUMNS)
        sizes |= await asyncio.to_thread(_measure, tables)
    return sizes


def _measure(tables: Sequence[Any]) -> dict[str, ScopeSize]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    rows = pa.concat_tables(tables) if tables else None
    if rows is None or not rows.num_rows:
        return {}
    if pc.max(rows["version"]).as_py() > 1 or len(tables) > 1:  # the newest version of a row counts
        last = [(name, "last") for name in ("scope", "status", "updated_at")]
        rows = rows.sort_by("version").group_by("id", use_threads=False).aggregate(last)
        rows = rows.rename_columns([name.removesuffix("_last") for name in rows.column_names])
    times = rows.group_by("scope").aggregate([("updated_at", "max")])
    counts = rows.filter(pc.equal(rows["status"], "activated")).group_by("scope").aggregate([("id", "count")])
    count_of = dict(zip(counts["scope"].to_pylist(), counts["id_count"].to_pylist(), strict=True))
    moments = zip(times["scope"].to_pylist(), times["updated_at_max"].to_pylist(), strict=True)
    return {scope: ScopeSize(count_of.get(scope, 0), moment.timestamp()) for scope, moment in moments}
