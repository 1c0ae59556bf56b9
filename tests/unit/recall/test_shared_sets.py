"""Tests of the working sets of several workers, over real sockets; those with gateways are in `flow/test_workers`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.recall.shared_sets import FollowerSets, OwnersSets
from gateway.recall.working_sets import WorkingSets
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import RowFormat
from gateway.telemetry import Telemetry
from gateway.workers.peers import FollowerPeers, OwnerPeers
from tests.fakes.made import SCOPE, record
from tests.fakes.running import eventually


class Pair:
    """The sets of the owner and of one other worker. `ended`: workers that the owner would have ended."""

    def __init__(self, folder: Path) -> None:
        path, self.ended = str(folder / "bus"), list[int]()
        self.owner_peers = OwnerPeers(2, path, serving=lambda: {1}, end=self.ended.append)
        self.other_peers = FollowerPeers(1, 2, path)
        self.folder, options = DataFolder(folder), {"max_rows": 10**6, "max_bytes": 10**9}
        store = self.store = MemoryStore(self.folder, RowFormat("e", 16, 2))
        self.owner = OwnersSets(store, Telemetry(), **options)
        self.owner.share(self.owner_peers)
        self.other = WorkingSets(store, Telemetry(), **options)
        self.snapshots: list[int] = []
        self.replica = FollowerSets(self.other_peers, self.other, lambda: self.snapshots.append(1))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    await pair.owner_peers.start()
    await pair.other_peers.start()
    pair.replica.start()
    pair.owner.publish_snapshot()
    await eventually(lambda: pair.snapshots == [1])
    yield pair
    await pair.replica.stop()
    await pair.other_peers.stop()
    await pair.owner_peers.stop()
    await pair.other.stop()
    await pair.owner.stop()


async def test_a_deletion_of_many_memories_reaches_the_others_and_ends_none(pair: Pair) -> None:
    records = [record(f"{number} is a long text. " * 100, number) for number in range(40_000)]
    await pair.owner.mark_deleted(records)
    assert pair.ended == []
    assert all(map(pair.other.is_marked_deleted, records))
    pair.owner.unmark_deleted(records[:2])
    await eventually(lambda: not pair.other.is_marked_deleted(records[0]))
    assert not pair.other.is_marked_deleted(records[1])
    assert pair.other.is_marked_deleted(records[2])
    assert pair.snapshots == [1], "the connection was never lost"


async def test_a_worker_that_has_stopped_recalling_acknowledges_deletions(pair: Pair) -> None:
    await pair.owner.mark_deleted([record("one", 1)])
    await asyncio.to_thread(pair.folder.open, 1, "e", 16)
    await pair.store.open()
    await pair.other.get(SCOPE)  # as if it had been recalled from
    await pair.replica.stop()
    await pair.other.stop()
    await pair.owner.mark_deleted([record("two", 2)])
    assert pair.ended == []
    await pair.store.close()
    pair.folder.close()
