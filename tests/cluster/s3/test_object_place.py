"""The store on object storage: several replicas of which one owns a bucket, and faults of the storage."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.memory.record import memory_id
from gateway.storage.errors import StorageError
from gateway.storage.folder import DataFolder
from gateway.storage.lance.file_catalog import FileCatalog
from gateway.storage.lance.homes import object_home
from gateway.storage.lance.object_place import ObjectPlace, ObjectStorage
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row
from tests.fakes.s3 import S3Server
from tests.fakes.s3_proxy import Fault, FaultyS3
from tests.fakes.shared_catalog import CatalogDatabase, FixedMeta, SharedCatalog
from tests.unit.storage.lance.test_store import ADA, BOB, MADE, row, texts

HOUR = 3600.0


class Replicas:
    """Further replicas of one memory."""

    def __init__(self, storage: ObjectStorage, database: CatalogDatabase) -> None:
        self._storage, self._database = storage, database
        self._stores: list[MemoryStore] = []

    async def open(self, name: str) -> tuple[MemoryStore, SharedCatalog]:
        catalog = SharedCatalog(self._database, name)
        store = MemoryStore(object_home(self._storage, catalog, FixedMeta()), MADE)
        self._stores.append(store)
        await store.open()
        return store, catalog

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture
async def replicas(storage: ObjectStorage, catalog: SharedCatalog) -> Any:
    others = Replicas(storage, catalog.database)
    yield others
    await others.close()


async def tables_with_objects(storage: ObjectStorage) -> set[str]:
    """The names of tables that have objects."""
    obstore = pytest.importorskip("obstore.store", reason="the extra `cluster` is not installed")
    options = {"allow_http": True}
    place = obstore.S3Store.from_url(storage.uri, config=dict(storage.credentials), client_options=options)
    paths = [entry["path"] async for page in place.list() for entry in page]
    return {path.partition(".lance/")[0] for path in paths}


async def test_a_replica_reads_what_the_owner_has_written(store: MemoryStore, replicas: Replicas) -> None:
    reader, _ = await replicas.open("reader")
    assert texts(await reader.load(ADA)) == []
    await store.add([row("one", 1)])
    assert texts(await reader.load(ADA)) == ["one"]
    await store.add([row("two", 2), row("of bob", 3, BOB.value)])
    assert texts(await reader.load(ADA)) == ["one", "two"]
    assert texts(await reader.load(BOB)) == ["of bob"]
    await store.purge([ADA.value])  # replaces and drops the table that the reader has open
    assert texts(await reader.load(ADA)) == ["one", "two"]


async def test_a_replica_that_does_not_own_a_bucket_changes_nothing(store: MemoryStore, replicas: Replicas) -> None:
    await store.add([row("one", 1)])
    reader, _ = await replicas.open("reader")
    for change in (reader.add([row("two", 2)]), reader.purge([ADA.value])):
        with pytest.raises(StorageError, match="another process"):
            await change
    assert [_ async for _ in reader.maintain()] == []
    assert await reader.older("turn", time.time(), 10) == []
    assert texts(await store.load(ADA)) == ["one"]


async def test_a_compacted_table_stays_readable_for_replicas(store: MemoryStore, replicas: Replicas) -> None:
    reader, _ = await replicas.open("reader")
    for number in range(20):
        await store.add([row(f"text {number}", number)])
        if number in (3, 17):
            assert len(await reader.load(ADA)) == number + 1
    assert len([_ async for _ in store.maintain()]) == 1
    assert len(await reader.load(ADA)) == 20


async def test_a_paused_writer_can_neither_publish_nor_overwrite(
    store: MemoryStore, catalog: SharedCatalog, replicas: Replicas
) -> None:
    await store.add([row("one", 1)])
    other, _ = await replicas.open("other")
    catalog.database.give_to("other")
    await other.add([row("two", 2)])
    await other.purge([ADA.value])  # drops the table that the first one has open
    catalog.believed_epoch = 1
    named = dict(catalog.database.buckets)
    with pytest.raises(StorageError):
        await store.add([row("late", 3)])
    with pytest.raises(StorageError):
        await store.purge([ADA.value])
    assert catalog.database.buckets == named
    catalog.believed_epoch = 0
    assert texts(await other.load(ADA)) == ["one", "two"]
    assert texts(await store.load(ADA)) == ["one", "two"]
    assert texts(await (await replicas.open("new"))[0].load(ADA)) == ["one", "two"]


async def test_who_owns_a_bucket_again_goes_on_from_what_others_wrote(
    store: MemoryStore, catalog: SharedCatalog, replicas: Replicas
) -> None:
    await store.add([row("one", 1)])
    other, _ = await replicas.open("other")
    catalog.database.give_to("other")
    await other.add([row("two", 2)])
    await other.purge([ADA.value])
    await other.add([row("three", 3)])
    catalog.database.give_to("")
    await store.add([row("four", 4)])
    for place in (store, other):
        assert texts(await place.load(ADA)) == ["one", "two", "three", "four"]


async def test_a_rebuild_that_lasted_longer_than_the_lease_changes_nothing(
    store: MemoryStore, catalog: SharedCatalog, replicas: Replicas
) -> None:
    await store.add([row("one", 1)])
    other, _ = await replicas.open("other")

    async def prepare(rows: list[Row]) -> list[Row]:
        catalog.database.give_to("other")
        await other.add([row("two", 2)])
        await other.purge([ADA.value])
        catalog.database.give_to("")
        return rows

    with pytest.raises(StorageError):
        await store.rebuild(store.part_of(ADA.value), prepare)
    for place in (store, other):
        assert texts(await place.load(ADA)) == ["one", "two"]


async def test_what_a_paused_writer_left_is_swept_after_an_hour(
    store: MemoryStore, catalog: SharedCatalog, replicas: Replicas, storage: ObjectStorage
) -> None:
    await store.add([row("one", 1)])
    other, other_catalog = await replicas.open("other")
    catalog.database.give_to("other")
    await other.purge([ADA.value])
    catalog.believed_epoch = 1
    with pytest.raises(StorageError):
        await store.add([row("late", 2)])
    with pytest.raises(StorageError):
        await store.purge([BOB.value, ADA.value])
    orphans = await tables_with_objects(storage) - other_catalog.names
    assert orphans, "the table that was revived, or begun"
    assert await other.sweep(0.0) == 0
    assert await other.sweep(HOUR - 1) == 0
    assert await other.sweep(HOUR) >= len(orphans)  # the server lists the folders of dropped tables, too
    assert await tables_with_objects(storage) == other_catalog.names
    assert texts(await other.load(ADA)) == ["one"]


async def test_replaced_tables_stay_for_ten_minutes(
    store: MemoryStore, catalog: SharedCatalog, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add([row("one", 1)])
    before = catalog.names
    await store.rebuilder.rebuild(store.part_of(ADA.value), MADE, None)
    assert [_ async for _ in store.maintain()] == []
    assert before < await tables_with_objects(storage)
    later = time.monotonic() + 601
    with monkeypatch.context() as patch:
        patch.setattr("gateway.storage.lance.tables.time.monotonic", lambda: later)
        assert [_ async for _ in store.maintain()] == []
    assert await tables_with_objects(storage) == catalog.names


@pytest.mark.parametrize("fault", ["503", "hang", "gone"])
async def test_a_storage_that_fails_for_a_while_loses_nothing(
    fault: Fault, store: MemoryStore, s3: FaultyS3, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectPlace, "read_timeout", 2.0)
    monkeypatch.setattr(ObjectPlace, "write_timeout", 3.0)
    await store.add([row("one", 1)])
    await store.purge([ADA.value])
    reader, _ = await replicas.open("reader")
    s3.fault = fault
    started = time.monotonic()
    with pytest.raises(StorageError) as failed_write:
        await store.add([row("two", 2)])
    with pytest.raises(StorageError) as failed_read:
        await reader.load(ADA)
    assert time.monotonic() - started < 10
    assert failed_write.value.is_outage
    assert failed_read.value.is_outage
    s3.fault = ""
    assert await store.put([row("two", 2)]) != []  # perhaps the failed write has stored it
    await store.add([row("three", 3)])
    for place in (store, reader):
        assert texts(await place.load(ADA)) == ["one", "two", "three"]


async def test_a_write_whose_answer_was_lost_is_not_doubled(
    store: MemoryStore, catalog: SharedCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add([row("one", 1)])

    async def fail(buckets: Any) -> None:
        raise StorageError("store", "the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "switch", fail)
        with pytest.raises(StorageError):
            await store.add([row("two", 2)])
    await store.put([row("two", 2)])
    assert texts(await store.load(ADA)) == ["one", "two"]
    assert await store.count(store.part_of(ADA.value)) == 2


async def test_a_copied_folder_is_the_same_memory(tmp_path: Path, s3_server: S3Server, storage: ObjectStorage) -> None:
    folder = DataFolder(tmp_path / "data")
    await asyncio.to_thread(folder.open, 2, "e", 4)
    local = MemoryStore(folder, MADE)
    await local.open()
    await local.add([row(f"text {number}", number) for number in range(300)])
    await local.rebuilder.rebuild(local.part_of(ADA.value), MADE, None)
    await local.add([row("of bob", 300, BOB.value), row("later", 301)])
    expected = (await local.load(ADA)).records()
    await local.close()
    folder.close()
    lance = folder.path / "lance"
    files = await asyncio.to_thread(lambda: [path for path in lance.rglob("*") if path.is_file()])
    for path in files:
        key = f"{storage.uri.removeprefix('s3://')}/{path.relative_to(lance).as_posix()}"
        await asyncio.to_thread(s3_server.put, key, await asyncio.to_thread(path.read_bytes))
    names = FileCatalog(folder.path / "tables.json")
    await asyncio.to_thread(names.read, [], MADE)
    catalog = SharedCatalog(CatalogDatabase({number: names.tables(number) for number in range(2)}))
    moved = MemoryStore(object_home(storage, catalog, FixedMeta(has_plain_ids=True)), MADE)
    await moved.open()
    assert (await moved.load(ADA)).records() == expected
    assert texts(await moved.load(BOB)) == ["of bob"]
    await moved.add([row("after the move", 302)])
    assert texts(await moved.load(ADA))[-1] == "after the move"
    assert [_ async for _ in moved.maintain()] == []
    await moved.close()


async def test_an_id_that_shows_no_bucket_is_found_from_then_on(store: MemoryStore, replicas: Replicas) -> None:
    scoped = row("new", 1, id=memory_id(ADA.value, "new"))
    await store.add([scoped])
    assert not await store.has_plain_ids()
    plain = row("plain", 2, id="f" * 32)
    other = row("of bob", 3, BOB.value, id="e" * 32)
    await store.add([plain, other])
    assert await store.has_plain_ids()
    ids = [entry.record.id for entry in (scoped, plain, other)]
    assert {record.text for record in await store.find([*ids, "0" * 32])} == {"new", "plain", "of bob"}
    assert await store.find_ids("ffff", 10) == ["f" * 32]
    assert await store.find_ids("eeee", 10) == ["e" * 32]


async def test_a_storage_that_refuses_writes_is_an_outage_and_no_fault_of_a_row(
    store: MemoryStore, s3: FaultyS3
) -> None:
    await store.probe(ADA.value)
    s3.refused["PUT"] = 403
    with pytest.raises(StorageError):
        await store.add([row("one", 1)])
    with pytest.raises(StorageError) as outage:
        await store.probe(ADA.value)
    assert outage.value.is_outage
    s3.refused.clear()
    await store.add([row("one", 1)])
    assert texts(await store.load(ADA)) == ["one"]


async def test_only_the_owner_of_a_bucket_indexes_its_words(store: MemoryStore, replicas: Replicas) -> None:
    await store.add([row("one", 1)])
    reader, _ = await replicas.open("reader")
    assert texts(await reader.near(ADA, ["a"], None)) == ["one"]
    (_, table) = store.buckets[store.part_of(ADA.value)].tables[0]
    assert await table.list_indices() == []
    assert texts(await store.near(ADA, ["a"], None)) == ["one"]
    assert await table.list_indices() != []
