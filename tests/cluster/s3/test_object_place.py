"""The store on object storage: several replicas of which one owns a bucket, requests, and faults of the storage."""

from gateway.storage.lance.homes import object_home
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.lance.store import MemoryStore
from tests.fakes.shared_catalog import CatalogDatabase, FixedMeta, SharedCatalog
from tests.unit.storage.lance.test_store import ADA, BOB, MADE, row, texts


def replica(storage: ObjectStorage, database: CatalogDatabase, name: str) -> tuple[MemoryStore, SharedCatalog]:
    catalog = SharedCatalog(database, name)
    return MemoryStore(object_home(storage, catalog, FixedMeta()), MADE), catalog


async def test_a_replica_reads_what_the_owner_has_written(
    storage: ObjectStorage, store: MemoryStore, catalog: SharedCatalog
) -> None:
    reader, _ = replica(storage, catalog.database, "reader")
    await reader.open()
    assert texts(await reader.load(ADA)) == []
    await store.add([row("one", 1)])
    assert texts(await reader.load(ADA)) == ["one"]
    await store.add([row("two", 2), row("of bob", 3, BOB.value)])
    assert texts(await reader.load(ADA)) == ["one", "two"]
    assert texts(await reader.load(BOB)) == ["of bob"]
    await store.purge([ADA.value])  # replaces and drops the table that the reader has open
    assert texts(await reader.load(ADA)) == ["one", "two"]
    await reader.close()
