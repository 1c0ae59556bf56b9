"""Look up memories by the first digits of their ids, as people type them. Raises StoreFailed."""

from gateway.storage.lance.conditions import begins_with
from gateway.storage.lance.store import MemoryStore

__all__ = ["ids_beginning"]


async def ids_beginning(store: MemoryStore, prefix: str, limit: int) -> list[str]:
    """Up to `limit` ids of all scopes that begin with these hexadecimal digits; the caller checks their owner."""
    condition = begins_with(prefix)
    ids: set[str] = set()
    for number in store.buckets if condition else ():
        for table in await store.rows(number, condition, ["id"]):
            ids.update(table.column("id").to_pylist())
        if len(ids) > limit:
            break
    return sorted(ids)[:limit]
