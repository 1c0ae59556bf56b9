"""A replica without the HTTP side: its storage and its workers, on a real PostgreSQL and a real S3 server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from gateway.memory.record import Record
from gateway.recall.followed_sets import FollowedSets
from gateway.recall.working_set import WorkingSet
from gateway.remember.row_builder import RowBuilder
from gateway.roles.replica import Replica
from gateway.storage.cluster import ClusterStorage
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.rows import Row, RowFormat
from gateway.telemetry import Telemetry
from gateway.turn import Scope

FORMAT = RowFormat("e", 4, 2)
BUCKETS = 4


class _Embedder:
    name = "e"
    dimensions = 4

    async def embed_documents(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), 4), np.float32) / 2


class _Embedders:
    def __init__(self) -> None:
        self.current = _Embedder()

    def named(self, name: str) -> _Embedder | None:
        return self.current if name == "e" else None


class Member:
    """A replica. `changed`: the scopes that it was told of; `stored`: rows that it has stored."""

    def __init__(
        self,
        url: str,
        storage: ObjectStorage,
        *,
        lease_seconds: float = 3.0,
        flush_seconds: float = 0.3,
        buckets: int = BUCKETS,
    ) -> None:
        self._buckets = buckets
        self.changed: list[str] = []
        self.stored: list[Row] = []
        self.storage = ClusterStorage(url, storage, lease_seconds=lease_seconds, max_backlog=2**30)
        self.storage.build_store(FORMAT)
        builder = RowBuilder(_Embedders(), self.storage.store.format_of, len)  # type: ignore[arg-type]
        self.replica = Replica(
            self.storage,
            builder,
            Telemetry(),
            lease_seconds=lease_seconds,
            flush_rows=256,
            flush_seconds=flush_seconds,
            on_stored=self._note_stored,
        )
        self.sets: FollowedSets

    async def _note_stored(self, rows: Sequence[Row]) -> None:
        self.stored += rows

    async def start(self) -> None:
        await self.storage.prepare(self._buckets)
        await self.storage.open()
        await self.storage.store.open()
        self.sets = self.replica.load(max_rows=10_000, max_bytes=2**28, on_change=[self.changed.extend])
        await self.replica.start()

    async def stop(self) -> None:
        await self.replica.stop()
        await self.sets.stop()
        await self.storage.store.close()
        await self.storage.close()

    async def append(self, *records: Record) -> int:
        return await self.storage.journal.append(records)

    async def texts(self, scope: Scope) -> list[str]:
        """The texts of a scope, as recall sees them."""
        handle = await self.sets.for_recall(scope)
        assert isinstance(handle, WorkingSet)
        records = await self.sets.records(handle)
        return sorted(record.text for record in records)

    @property
    def owned(self) -> set[int]:
        return {bucket for bucket in self.storage.leases.held() if bucket >= 0}


@asynccontextmanager
async def running_members(
    url: str, storage: ObjectStorage, count: int = 3, *, is_joint_start: bool = False, **options: Any
) -> AsyncIterator[list[Member]]:
    """Run replicas, which are started one after the other, or together."""
    members = [Member(url, storage, **options) for _ in range(count)]
    started: list[Member] = []
    try:
        if is_joint_start:
            started += members
            await asyncio.gather(*(member.start() for member in members))
        for member in members[len(started) :]:
            await member.start()
            started.append(member)
        yield members
    finally:
        await asyncio.gather(*(member.stop() for member in started))
