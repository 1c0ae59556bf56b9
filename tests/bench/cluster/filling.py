"""Fills the place of a cluster with memories, straight through the product's own store.

`python -m tests.bench.cluster.filling TEXTS FRAGMENTS JSON`, where JSON has the endpoint of the S3 server, the
database, the address on S3, and users with the number of their memories; see `tests.bench.filling` for the texts. Most
memories are in the settled table of their bucket, one in ten in its growing table, which has so many FRAGMENTS.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from gateway.identity import scope_of
from gateway.storage.cluster import ClusterStorage
from gateway.storage.lance.store import MemoryStore
from tests.bench.cluster.engines import Engines, Place
from tests.bench.filling import ROW_FORMAT, Material, rows_of
from tests.bench.processes import ROOT
from tests.fakes.s3 import storage_at

__all__ = ["BUCKETS", "fill_place"]

BUCKETS = 16
_LEASE_SECONDS = 60.0
_SETTLED_SHARE = 0.9
_BATCH = 4_000


async def fill_place(engines: Engines, place: Place, users: Mapping[str, int], *, texts: int, fragments: int) -> None:
    """Fill a place, in a process of its own."""
    spec = {"endpoint": engines.s3.url, "database": place.database_url, "uri": place.uri, "users": users}
    command = (sys.executable, "-m", "tests.bench.cluster.filling", str(texts), str(fragments), json.dumps(spec))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await process.wait() == 0, "a place was not filled"


def build_storage(spec: Mapping[str, Any]) -> ClusterStorage:
    """The storage of a replica at a place, past the proxy."""
    storage = storage_at(spec["uri"], spec["endpoint"])
    return ClusterStorage(spec["database"], storage, lease_seconds=_LEASE_SECONDS, max_backlog=2**30)


async def fill(material: Material, fragments: int, spec: Mapping[str, Any]) -> None:
    storage = build_storage(spec)
    store = storage.build_store(ROW_FORMAT)
    await storage.prepare(BUCKETS)
    await storage.open()
    await storage.leases.acquire(range(BUCKETS))
    await store.open()
    users, random = spec["users"], np.random.default_rng(1)
    settled = {user: int(count * _SETTLED_SHARE) for user, count in users.items()}
    await _add(storage, material, {user: range(count) for user, count in settled.items()}, random)
    for number in sorted({storage.bucket_of(scope_of("default", user).value) for user in users}):
        await storage.leases.renew()
        await store.rebuilder.rebuild(number, ROW_FORMAT, None)
    for fragment in range(fragments):
        parts = {user: range(settled[user], count)[fragment::fragments] for user, count in users.items()}
        await _add(storage, material, parts, random)
    await _close(storage, store)


async def _add(
    storage: ClusterStorage, material: Material, parts: Mapping[str, range], random: np.random.Generator
) -> None:
    """Add the memories of users with these numbers, with few writes to each bucket."""
    by_bucket: dict[int, list[Any]] = {}
    for user, numbers in parts.items():
        scope = scope_of("default", user)
        rows = rows_of(material, scope, numbers, random)
        by_bucket.setdefault(storage.bucket_of(scope.value), []).extend(rows)
    for rows in by_bucket.values():
        for begin in range(0, len(rows), _BATCH):
            await storage.leases.renew()
            await storage.store.add(rows[begin : begin + _BATCH])


async def _close(storage: ClusterStorage, store: MemoryStore) -> None:
    await store.close()
    await storage.close()


def main() -> None:
    texts, fragments, spec = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    with TemporaryDirectory() as folder:
        asyncio.run(fill(Material(texts, Path(folder)), fragments, spec))


if __name__ == "__main__":
    main()
