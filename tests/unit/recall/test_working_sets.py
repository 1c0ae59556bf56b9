import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.identity import scope_of
from gateway.memory.record import Record
from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.recall.working_sets import LargeScope, WorkingSets
from gateway.storage.errors import StorageError
from gateway.storage.folder import DataFolder
from gateway.storage.lance.schema import to_arrow
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import LoadedRows, Row, RowFormat
from gateway.telemetry import Telemetry
from gateway.text.terms import terms
from gateway.turn import Scope
from tests.fakes.made import SCOPE, record
from tests.unit.recall.test_working_set import row

ADA = scope_of("t", "ada")
Vectors = NDArray[np.float32]


class Store:
    def __init__(self) -> None:
        self.rows: list[Row] = [row("stored fact", 1)]
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    def format_of(self, scope: str) -> RowFormat:
        return RowFormat("e", 4, 2)

    async def is_larger(self, scope: Scope, rows: int) -> bool:
        return False

    async def load(self, scope: Scope) -> LoadedRows:
        self.loads += 1
        await self.gate.wait()
        if self.fails:
            raise StorageError("store", "no")
        return LoadedRows([to_arrow(self.rows, 4)])


def sets(store: Store, **limits: int) -> WorkingSets:
    options: dict[str, Any] = {"max_rows": 100, "max_bytes": 10**9, **limits}
    return WorkingSets(store, Telemetry(), **options)  # type: ignore[arg-type]  # a store of this test's own


async def test_a_set_is_loaded_once_for_all_who_ask() -> None:
    store = Store()
    made = sets(store)
    one, other = await asyncio.gather(made.get(SCOPE), made.get(SCOPE))
    assert one is other
    assert (await made.get(SCOPE)) is one
    assert store.loads == 1
    await made.stop()


async def test_rows_written_while_it_loads_are_not_missed() -> None:
    store = Store()
    store.gate.clear()
    made = sets(store)
    loading = asyncio.create_task(made.get(SCOPE))
    await asyncio.sleep(0)
    await made.apply([row("written meanwhile", 2)])
    store.gate.set()
    assert len(await loading) == 2
    await made.stop()


async def test_rows_that_the_store_does_not_have_are_found_in_every_way() -> None:
    store = Store()
    made = sets(store)
    stored = store.rows[0]
    change = replace(stored, record=replace(stored.record, text="changed", version=2))
    archived = row("archived", 3)
    archived = replace(archived, record=replace(archived.record, status="archived"))
    new = [row("new", 2), change, archived]
    await made.add_unstored(new)
    assert {one.text for one in (await made.get(SCOPE)).records()} == {"changed", "new", "archived"}
    assert (await made.find([change.record.id]))[change.record.id].text == "changed"
    assert [one.text for one in (await made.archived(SCOPE)).records()] == ["archived"]
    made.drop([SCOPE.value])
    assert (await made.find([change.record.id]))[change.record.id].text == "changed", "its set is not in RAM"
    tombstone = replace(change, record=replace(change.record, text="", status="deleted", version=3))
    await made.mark_deleted([change.record])
    await made.add_unstored([tombstone])
    assert {one.text for one in (await made.whole(SCOPE)).records()} == {"new", "archived"}
    assert (await made.find([change.record.id]))[change.record.id].status == "deleted"
    await made.stop()


async def test_a_rejected_row_is_found_no_longer_and_its_earlier_version_is() -> None:
    store = Store()
    made = sets(store)
    await made.get(SCOPE)
    stored = store.rows[0]
    change = replace(stored, record=replace(stored.record, text="changed", version=2))
    new = [change, row("new", 2)]
    await made.add_unstored(new)
    made.retract(new)
    assert [one.text for one in (await made.get(SCOPE)).records()] == ["stored fact"]
    await made.add_unstored(new)
    store.rows = [change, new[1]]
    made.mark_stored(new)
    made.drop([SCOPE.value])
    assert {one.text for one in (await made.get(SCOPE)).records()} == {"changed", "new"}
    assert await made.find([new[1].record.id]) != {}
    await made.stop()


async def test_a_rejected_deletion_stays_in_force() -> None:
    store = Store()
    made = sets(store)
    stored = store.rows[0]
    tombstone = replace(stored, record=replace(stored.record, text="", status="deleted", version=2))
    await made.mark_deleted([stored.record])
    await made.add_unstored([tombstone])
    made.retract([tombstone])
    assert (await made.get(SCOPE)).records() == []
    assert made.is_marked_deleted(stored.record)
    await made.stop()


async def test_what_is_restored_after_its_deletion_is_found() -> None:
    store = Store()
    made = sets(store)
    stored = store.rows[0]
    tombstone = replace(stored, record=replace(stored.record, text="", status="deleted", version=2))
    restored = replace(stored, record=replace(stored.record, version=3))
    await made.mark_deleted([stored.record])
    await made.add_unstored([tombstone, restored])
    assert not made.is_marked_deleted(restored.record)
    assert [one.version for one in (await made.get(SCOPE)).records()] == [3]
    await made.mark_deleted([restored.record])
    made.unmark_deleted([restored.record])  # it could not be written
    assert [one.version for one in (await made.get(SCOPE)).records()] == [3]
    await made.stop()


async def test_a_stored_row_does_not_replace_a_newer_one_that_is_not_stored_yet() -> None:
    made = sets(Store())
    await made.get(SCOPE)
    first = replace(row("first", 2), seq=1)
    second = replace(first, record=replace(first.record, text="second", version=2), seq=2)
    gone = replace(first, record=replace(first.record, text="", status="deleted", version=3), seq=3)
    await made.add_unstored([first])
    await made.add_unstored([second])
    await made.apply([replace(first, embedder="another")])
    assert {one.text for one in (await made.get(SCOPE)).records()} == {"stored fact", "second"}
    await made.add_unstored([gone])
    await made.apply([replace(second, embedder="another")])
    assert {one.text for one in (await made.get(SCOPE)).records()} == {"stored fact"}
    await made.stop()


async def test_a_failed_load_is_tried_again() -> None:
    store = Store()
    store.fails = True
    made = sets(store)
    with pytest.raises(StorageError):
        await made.get(SCOPE)
    store.fails = False
    assert len(await made.get(SCOPE)) == 1
    await made.stop()


async def test_a_load_goes_on_when_its_caller_gives_up() -> None:
    store = Store()
    store.gate.clear()
    made = sets(store)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.get(SCOPE), 0.01)
    store.gate.set()
    assert len(await made.get(SCOPE)) == 1
    assert store.loads == 1
    await made.stop()


async def test_the_least_recently_used_leaves_first() -> None:
    store = Store()
    made = sets(store, max_bytes=1)
    await made.get(SCOPE)
    await made.get(Scope("b" * 64, "default", "bob"))
    await made.get(SCOPE)
    assert store.loads == 3
    await made.stop()


WORDS = [f"word{number}" for number in range(300)]


def said(number: int, made: np.random.Generator, centres: Vectors) -> Row:
    """A memory on one of a few topics: its words and its vector tell which."""
    topic = int(made.integers(0, len(centres)))
    words = [f"topic{topic}", *(WORDS[int(one)] for one in made.integers(0, len(WORDS), 6))]
    vector = centres[topic] + made.standard_normal(16).astype(np.float32) * 0.6
    text = " ".join(words)
    one = record(text, number, session_id=f"s{number // 4}", scope=ADA.value)
    vector /= np.linalg.norm(vector)
    return Row(record=one, vector=vector, embedder="e", terms=tuple(terms(text)), tokens=12, seq=number)


async def test_a_scope_that_is_not_held_is_ranked_as_if_it_were(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    await asyncio.to_thread(folder.open, 1, "e", 16)
    store = MemoryStore(folder, RowFormat("e", 16, 2))
    await store.open()
    made = np.random.default_rng(5)
    centres = made.standard_normal((12, 16)).astype(np.float32)
    rows = [said(number, made, centres) for number in range(3000)]
    await store.add(rows[:2000])
    await store.rebuilder.rebuild(0, RowFormat("e", 16, 2), None)
    await store.add(rows[2000:])
    large, whole = sets(store, max_rows=1000), sets(store, max_rows=10_000)  # type: ignore[arg-type]  # a real one
    held = await whole.for_recall(ADA)
    assert isinstance(held, WorkingSet)
    handle = await large.for_recall(ADA)
    assert isinstance(handle, LargeScope)
    shares = []
    for number in range(0, 3000, 150):
        query = list(rows[number].terms[:4])
        meant = centres[int(rows[number].terms[0].removeprefix("topic"))] / np.linalg.norm(centres[0])
        around = await handle.around(query, meant)
        first, second = (
            {one.record.id for one in working_set.search(query, meant, 10, RankWeights())}
            for working_set in (held, around)
        )
        shares.append(len(first & second) / 10)
    assert sum(shares) / len(shares) >= 0.7, "of the best ten, on average"
    best = (await handle.around(list(rows[7].terms), None)).search(list(rows[7].terms), None, 3, RankWeights())
    assert rows[7].record.id in {one.record.id for one in best}, "the oldest are found too"
    await large.mark_deleted([rows[7].record])
    struck = (await handle.around(list(rows[7].terms), None)).search(list(rows[7].terms), None, 9, RankWeights())
    assert rows[7].record.id not in {one.record.id for one in struck}
    assert len(await large.whole(ADA)) == 2999, "listing and deleting see all of it"
    assert isinstance(await large.for_recall(ADA), LargeScope)
    for one in (large, whole):
        await one.stop()
    await store.close()
    folder.close()


async def test_searches_do_not_wait_for_a_long_list() -> None:
    store = Store()
    store.rows = [row(f"fact {number}", number) for number in range(5000)]
    working_sets = sets(store)
    working_set = await working_sets.get(SCOPE)
    seen: list[str] = []
    searched_after: list[int] = []

    def allows(record: Record) -> bool:
        seen.append(record.id)
        return True

    async def search() -> None:
        while len(searched_after) < 2:
            searched_after.append(await working_sets.run(lambda: len(seen)))

    records, _ = await asyncio.gather(working_sets.records(working_set, allows), search())
    assert [record.text for record in records] == [f"fact {number}" for number in range(5000)]
    assert searched_after[-1] < 5000
    await working_sets.stop()


async def test_a_memory_that_is_deleted_during_a_long_list_is_not_in_it() -> None:
    store = Store()
    store.rows = [row(f"fact {number}", number) for number in range(5000)]
    working_sets = sets(store)
    working_set = await working_sets.get(SCOPE)
    listing = asyncio.create_task(working_sets.records(working_set))
    await working_sets.run(lambda: None)  # the list has begun
    await working_sets.mark_deleted([store.rows[-1].record])
    assert "fact 4999" not in {record.text for record in await listing}
    await working_sets.stop()
