"""How many requests the store makes of object storage: each one takes time, and costs."""

import time
from collections import Counter

from gateway.identity import scope_of
from gateway.memory.record import memory_id
from gateway.storage.lance.homes import object_home
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.lance.store import MemoryStore
from tests.fakes.s3_proxy import FaultyS3
from tests.fakes.shared_catalog import FixedMeta, SharedCatalog
from tests.unit.storage.lance.test_store import ADA, BOB, MADE, row

APPEND = Counter(PUT=3, LIST=1)
SCOPES = [scope_of("t", f"user {number}") for number in range(10)]


async def add_rows(store: MemoryStore, count: int, begin: int) -> None:
    await store.add([row(f"text {number}", number) for number in range(begin, begin + count)])


async def test_opening_lists_and_opens_no_table(
    store: MemoryStore, catalog: SharedCatalog, storage: ObjectStorage, s3: FaultyS3
) -> None:
    await add_rows(store, 1, 0)
    s3.forget()
    again = MemoryStore(object_home(storage, SharedCatalog(catalog.database), FixedMeta()), MADE)
    await again.open()
    assert s3.counts == Counter(LIST=1), "that of the connection"
    await again.close()


async def test_an_append_costs_the_same_for_one_row_and_for_many(store: MemoryStore, s3: FaultyS3) -> None:
    await add_rows(store, 1, 0)  # makes the table
    for count in (1, 32, 256):
        s3.forget()
        await add_rows(store, count, 1000 * count)
        assert s3.counts == APPEND


async def test_compacting_reads_a_few_objects_for_each_write(store: MemoryStore, s3: FaultyS3) -> None:
    for number in range(16):
        await add_rows(store, 1, number)
    s3.forget()
    assert len([_ async for _ in store.maintain()]) == 1
    assert s3.counts["GET"] <= 16 * 3.2 * 1.2
    assert s3.counts["PUT"] <= 6
    assert s3.counts["LIST"] <= 13
    s3.forget()
    assert [_ async for _ in store.maintain()] == []
    assert s3.counts == Counter(), "an idle minute costs nothing"


async def test_a_scope_is_loaded_with_a_dozen_requests(
    store: MemoryStore, catalog: SharedCatalog, storage: ObjectStorage, s3: FaultyS3
) -> None:
    number = 0
    for scope in SCOPES:
        for begin in range(0, 2000, 1000):
            batch = [row(f"text {begin + offset}", number + offset, scope.value) for offset in range(1000)]
            number += len(batch)
            await store.add(batch)
    for part in range(2):
        await store.rebuilder.rebuild(part, MADE, None)
    reader = MemoryStore(object_home(storage, SharedCatalog(catalog.database, "reader"), FixedMeta()), MADE)
    await reader.open()
    s3.forget()
    s3.delays = {"GET": 0.025, "LIST": 0.04, "HEAD": 0.025}
    assert len(await reader.load(SCOPES[0])) == 2000
    assert s3.counts["LIST"] <= 2, "one for each table of the bucket"
    assert s3.counts["GET"] <= 12 * 1.2
    s3.forget()
    assert len(await reader.load(SCOPES[0])) == 2000
    assert s3.counts["GET"] <= 9 * 1.2
    assert s3.counts.total() == s3.counts["GET"]
    await reader.close()


async def test_a_store_that_is_warm_opens_no_table_for_a_scope(
    store: MemoryStore, catalog: SharedCatalog, storage: ObjectStorage, s3: FaultyS3
) -> None:
    for begin in range(0, 400, 100):
        await add_rows(store, 100, begin)
    requests = dict[str, Counter[str]]()
    for name in ("cold", "warm"):
        reader = MemoryStore(object_home(storage, SharedCatalog(catalog.database, name), FixedMeta()), MADE)
        await reader.open()
        if name == "warm":
            await reader.warm_up()
        s3.forget()
        assert len(await reader.load(ADA)) == 400
        requests[name] = s3.counts.copy()
        await reader.close()
    assert requests["warm"]["LIST"] == 0
    assert requests["warm"]["GET"] < requests["cold"]["GET"]


async def test_a_changed_table_is_read_again_without_a_list(
    store: MemoryStore, catalog: SharedCatalog, storage: ObjectStorage, s3: FaultyS3
) -> None:
    await add_rows(store, 9, 0)
    reader = MemoryStore(object_home(storage, SharedCatalog(catalog.database, "reader"), FixedMeta()), MADE)
    await reader.open()
    assert len(await reader.load(ADA)) == 9
    await add_rows(store, 9, 10)
    s3.forget()
    assert len(await reader.load(ADA)) == 18
    assert s3.counts["LIST"] == 0
    assert s3.counts["HEAD"] == 1
    await reader.close()


async def test_a_memory_is_looked_up_in_the_bucket_that_its_id_shows(store: MemoryStore, s3: FaultyS3) -> None:
    ids = {scope.value: memory_id(scope.value, "one") for scope in (ADA, BOB)}
    assert store.part_of(ADA.value) != store.part_of(BOB.value)
    await store.add([row("one", 1, scope, id=id_) for scope, id_ in ids.items()])
    s3.forget()
    assert len(await store.find([ids[ADA.value]])) == 1
    assert await store.find_ids(ids[ADA.value][:6], 10) == [ids[ADA.value]]
    other = f"memories_{store.part_of(BOB.value):03d}"
    assert s3.counts.total() > 0
    assert not [path for path in s3.paths if other in path]


async def test_retention_opens_no_table_that_has_nothing_to_find(
    store: MemoryStore, catalog: SharedCatalog, storage: ObjectStorage, s3: FaultyS3
) -> None:
    await add_rows(store, 9, 0)
    await store.rebuilder.rebuild(store.part_of(ADA.value), MADE, None)
    await add_rows(store, 9, 10)
    again = MemoryStore(object_home(storage, SharedCatalog(catalog.database), FixedMeta()), MADE)
    await again.open()
    s3.forget()
    oldest = row("", 0).record.created_at
    assert await again.older("turn", oldest, 10) == []
    assert await again.crowded(18, 10) == []
    assert await again.purge_older(time.time()) == 0
    assert not await again.is_larger(ADA, 18)
    assert [_ async for _ in again.maintain()] == []
    assert s3.counts == Counter()
    assert len(await again.older("turn", oldest + 1, 10)) == 1
    assert await again.is_larger(ADA, 17)
    assert len(await again.crowded(17, 10)) == 1
    await again.close()


async def test_a_changed_memory_is_purged_when_it_is_time(store: MemoryStore, s3: FaultyS3) -> None:
    changed = row("old", 1)
    await store.add([changed])
    newer = row("new", 2, id=changed.record.id, version=2)
    await store.put([newer])
    s3.forget()
    assert await store.purge_older(newer.record.updated_at) == 0
    assert s3.counts == Counter()
    assert await store.purge_older(newer.record.updated_at + 1) == 1
