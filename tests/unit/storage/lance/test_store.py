import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.identity import scope_of
from gateway.memory.filters import parse_filter
from gateway.memory.record import memory_id
from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.storage.errors import StorageError
from gateway.storage.folder import DataFolder
from gateway.storage.lance import rebuild as rebuild_module
from gateway.storage.lance.homes import folder_home
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row, RowFormat
from tests.fakes.made import record

MADE = RowFormat("e", 4, 2)
ADA, BOB = scope_of("t", "ada"), scope_of("t", "bob")


def row(text: str, number: int, scope: str = ADA.value, **fields: Any) -> Row:
    vector = np.full(4, 0.5, np.float32)
    made = record(text, number, scope=scope, **fields)
    return Row(record=made, vector=vector, embedder="e", terms=("a", "猫"), tokens=7, seq=number)


def bucket_in(store: MemoryStore, number: int) -> Any:
    """A bucket with its tables, which only the store itself uses."""
    return store.buckets[number]


def tables_of(store: MemoryStore) -> Any:
    return store.buckets.tables


def database_of(store: MemoryStore) -> Any:
    return tables_of(store)._database


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = DataFolder(tmp_path / "data")
    made.open(2, "e", 4)
    yield made
    made.close()


@pytest.fixture
async def store(folder: DataFolder) -> AsyncIterator[MemoryStore]:
    made = MemoryStore(folder, MADE)
    await made.open()
    yield made
    await made.close()


async def maintained(store: MemoryStore) -> int:
    return sum([await store.rebuilder.maintain(number) for number in store.buckets.by_number])


async def test_rows_come_back_whole_and_in_order(store: MemoryStore) -> None:
    fields: dict[str, Any] = {
        "tags": ("x", "y"),
        "info": {"deep": [1, {"a": None}]},
        "links": ("l",),
        "part": 3,
        "confidence": 0.5,
    }
    written = [row(f"text 猫 {number}", number, **fields) for number in (3, 1, 2)]
    await store.add(written)
    loaded = (await store.load(ADA)).rows()
    assert [one.seq for one in loaded] == [1, 2, 3]
    one, expected = loaded[0], written[1]
    assert one.record == expected.record
    assert (one.terms, one.tokens, one.embedder) == (expected.terms, expected.tokens, expected.embedder)
    assert one.vector is not None
    assert one.vector.tolist() == [0.5] * 4


async def test_scopes_are_kept_apart(store: MemoryStore) -> None:
    await store.add([row("a", 1), row("b", 2, BOB.value)])
    assert [one.record.text for one in (await store.load(ADA)).rows()] == ["a"]
    assert [one.record.text for one in (await store.load(BOB)).rows()] == ["b"]
    with pytest.raises(ValueError, match="64 hex"):
        await store.load(dataclasses.replace(ADA, value="' OR 1=1 --" + "a" * 53))


async def test_an_older_version_that_comes_late_changes_nothing(store: MemoryStore) -> None:
    first = row("first", 1)
    await store.add([first])
    gone = row("", 3, id=first.record.id, version=2, status="deleted")
    assert await store.put([gone]) == [gone]
    late = row("changed", 2, id=first.record.id, version=2)
    assert await store.put([late]) == []
    assert (await store.load(ADA)).records() == []
    await store.rebuilder.rebuild(store.buckets.number_of(ADA.value), MADE, None)
    assert (await store.load(ADA)).records() == []


async def test_what_may_exist_is_replaced_not_doubled(store: MemoryStore) -> None:
    await store.add([row("old", 1, id="1" * 32)])
    await store.put([row("new", 1, id="1" * 32), row("newest", 1, id="1" * 32)])
    assert [one.record.text for one in (await store.load(ADA)).rows()] == ["newest"]


async def test_many_small_writes_are_compacted(store: MemoryStore) -> None:
    for number in range(101):
        await store.add([row(f"t{number}", number)])
    assert await maintained(store) == 1
    assert len(await store.load(ADA)) == 101
    assert await maintained(store) == 0
    await store.sync()
    await store.probe(ADA.value)


async def test_a_row_without_a_vector_is_kept(store: MemoryStore) -> None:
    bare = Row(record=record("bare", 1, scope=ADA.value), vector=None, embedder="", terms=(), tokens=1, seq=1)
    await store.add([bare, row("full", 2)])
    loaded = (await store.load(ADA)).rows()
    assert loaded[0].vector is None
    assert loaded[1].vector is not None


async def test_a_closed_store_says_so(folder: DataFolder) -> None:
    store = MemoryStore(folder, MADE)
    for call in (store.load(ADA), store.add([row("a", 1)]), store.probe(ADA.value)):
        with pytest.raises(StorageError, match="not open"):
            await call


async def test_a_broken_store_fails_in_its_own_words(store: MemoryStore, folder: DataFolder) -> None:
    await store.add([row("a", 1)])
    for file in (folder.path / "lance").rglob("*.lance"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(StorageError):
        await store.load(ADA)


async def test_memories_are_found_by_id_in_whatever_scope(store: MemoryStore) -> None:
    one, other = row("a", 1), row("b", 2, BOB.value)
    await store.add([one, other])
    found = await store.find([one.record.id, other.record.id, "f" * 32, "' OR 1=1 --", ""])
    assert {record.id for record in found} == {one.record.id, other.record.id}
    assert await store.find(["x"]) == []


@pytest.mark.parametrize("buckets", [1, 3, 16])
@pytest.mark.parametrize("has_plain_ids", [False, True])
async def test_ids_of_each_form_are_found_in_a_folder_of_each_age(
    tmp_path: Path, buckets: int, has_plain_ids: bool
) -> None:
    folder = DataFolder(tmp_path / "data")
    await asyncio.to_thread(folder.open, buckets, "e", 4)
    assert not folder.has_plain_ids
    if has_plain_ids:
        meta = orjson.loads((folder.path / "meta.json").read_bytes())
        del meta["has_plain_ids"]  # as in a folder of an earlier version
        (folder.path / "meta.json").write_bytes(orjson.dumps(meta))
        folder.close()
        await asyncio.to_thread(folder.open, buckets, "e", 4)
        assert folder.has_plain_ids
    store = MemoryStore(folder, MADE)
    await store.open()
    scopes = [scope_of("t", f"user {number}").value for number in range(9)]
    await store.add([row(f"new {scope}", 1, scope, id=memory_id(scope, "one")) for scope in scopes])
    assert not await store.has_plain_ids()
    await store.add([row(f"old {scope}", 2, scope) for scope in scopes])
    assert await store.has_plain_ids()
    ids = [memory_id(scope, "one") for scope in scopes] + [row(f"old {scope}", 2).record.id for scope in scopes]
    assert {one.id for one in await store.find([*ids, "0" * 32, "no id"])} == set(ids)
    for id_ in ids:
        assert await store.find_ids(id_[:10], 5) == [id_]
    await store.close()
    folder.close()


async def test_a_changed_row_replaces_the_old_one_and_keeps_its_place(store: MemoryStore) -> None:
    first, second = row("a", 1), row("b", 2)
    await store.add([first, second])
    changed = dataclasses.replace(first.record, text="c", version=2)
    await store.put([dataclasses.replace(first, record=changed, seq=9)])
    assert [(one.record.text, one.record.version) for one in (await store.load(ADA)).rows()] == [("c", 2), ("b", 1)]


INFO = st.dictionaries(
    st.sampled_from(["scene", "priority", "paid"]), st.integers(0, 3) | st.booleans() | st.sampled_from(["a", "B"])
)
RECORDS = st.fixed_dictionaries(
    {
        "tags": st.lists(st.sampled_from(["x", "y", "旅行"]), max_size=2).map(tuple),
        "info": INFO,
        "session_id": st.sampled_from(["s1", "s2"]),
        "confidence": st.sampled_from([0.1, 0.5, 0.9]),
        "event_time": st.integers(1_767_225_600, 1_767_400_000).map(float),
        "source": st.sampled_from(["user", "assistant"]),
    }
)
LEAVES = st.one_of(
    st.builds(
        lambda op, v: {"confidence": {op: v}},
        st.sampled_from(["=", "gt", "gte", "lt", "lte"]),
        st.sampled_from([0.1, 0.9]),
    ),
    st.builds(lambda v: {"tags": {"contains": v}}, st.sampled_from(["x", "旅行"])),
    st.builds(lambda op: {"created_at": {op: "2026-01-02"}}, st.sampled_from(["=", "gt", "gte", "lt", "lte"])),
    st.builds(
        lambda k, v: {k: v}, st.sampled_from(["scene", "info.priority", "paid"]), st.sampled_from(["a", 1, True])
    ),
    st.builds(lambda v: {"memory": {"like": v}}, st.sampled_from(["1", "TEXT"])),
    st.just({"memory_type": "UserMemory", "session_id": {"in": ["s1"]}}),
)


def joined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    conditions = st.lists(inner, min_size=1, max_size=3)
    return st.builds(lambda join, found: {join: found}, st.sampled_from(["and", "or"]), conditions)


TREES = st.recursive(LEAVES, joined, max_leaves=5)


@given(st.lists(RECORDS, min_size=1, max_size=8), st.lists(TREES, min_size=4, max_size=8))
@settings(max_examples=12, deadline=None)
def test_a_filter_has_the_same_answer_on_the_working_set_and_on_the_store(
    records: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> None:
    rows = [row(f"text {number}", number, **fields) for number, fields in enumerate(records)]

    async def stored(folder: DataFolder) -> list[Row]:
        store = MemoryStore(folder, MADE)
        await store.open()
        await store.add(rows)
        loaded = (await store.load(ADA)).rows()
        await store.close()
        return loaded

    with tempfile.TemporaryDirectory() as path:
        folder = DataFolder(Path(path) / "data")
        folder.open(1, "e", 4)
        from_store = asyncio.run(stored(folder))
        folder.close()
    held = WorkingSet(4, "e")
    held.put(rows)
    for data in filters:
        allows = parse_filter(data).everywhere
        assert allows is not None
        expected = {one.record.id for one in from_store if allows(one.record)}
        assert {one.id for one in filter(allows, held.records())} == expected
        found = held.search(("a",), None, 100, RankWeights(), allows=allows)
        assert {one.record.id for one in found} == expected


def texts(loaded: Any) -> list[str]:
    return [one.text for one in loaded.records()]


async def test_a_rebuilt_bucket_holds_the_newest_versions_and_none_that_are_deleted(store: MemoryStore) -> None:
    await store.add([row(f"a{number}", number) for number in range(6)])
    changed = dataclasses.replace(row("a1", 1).record, text="changed", version=2)
    deleted = dataclasses.replace(row("a2", 2).record, status="deleted", text="", version=2)
    later = [dataclasses.replace(row("", 9), record=one, seq=9) for one in (changed, deleted)]
    await store.put(later)
    bucket = store.buckets.number_of(ADA.value)
    assert await store.rebuilder.rebuild(bucket, MADE, None) == [ADA.value]
    assert texts(await store.load(ADA)) == ["a0", "changed", "a3", "a4", "a5"]
    assert await store.find([deleted.id]) == []
    await store.put(
        [dataclasses.replace(row("", 3), record=dataclasses.replace(row("a3", 3).record, text="!", version=5))],
    )
    assert texts(await store.load(ADA)) == ["a0", "changed", "!", "a4", "a5"]


async def test_what_is_written_during_a_rebuild_is_not_missed(store: MemoryStore, folder: DataFolder) -> None:
    await store.add([row(f"a{number}", number) for number in range(3)])
    bucket, other = store.buckets.number_of(ADA.value), RowFormat("other", 8, 2)

    async def prepare(rows: list[Row]) -> list[Row]:
        await store.add([row("meanwhile", 50)])
        assert texts(await store.load(ADA)) == ["a0", "a1", "a2", "meanwhile"]
        assert store.format_of(ADA.value) == MADE
        vector = np.ones(8, np.float32)
        return [dataclasses.replace(one, vector=vector, embedder="other", terms=("new",)) for one in rows]

    await store.rebuilder.rebuild(bucket, other, prepare)
    assert store.format_of(ADA.value) == other
    loaded = await store.load(ADA)
    assert texts(loaded) == ["a0", "a1", "a2", "meanwhile"]
    assert loaded.vectors("other", 8).any(axis=1).tolist() == [True, True, True, False]
    with pytest.raises(StorageError, match="rebuilt meanwhile"):
        await store.add([row("of the old embedder", 60)])
    await store.close()
    again = MemoryStore(folder, other)
    await again.open()
    assert again.outdated() == {bucket: MADE}, "what came meanwhile is still to be made anew"
    await again.close()


async def test_a_rebuild_that_breaks_off_leaves_all_as_it_was(store: MemoryStore, folder: DataFolder) -> None:
    await store.add([row(f"a{number}", number) for number in range(3)])

    async def prepare(rows: list[Row]) -> list[Row]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.rebuilder.rebuild(store.buckets.number_of(ADA.value), MADE, prepare)
    assert texts(await store.load(ADA)) == ["a0", "a1", "a2"]
    await store.add([row("later", 9)])
    await store.close()
    again = MemoryStore(folder, MADE)
    await again.open()
    assert texts(await again.load(ADA)) == ["a0", "a1", "a2", "later"]
    assert set((await again.buckets.tables._database.list_tables()).tables) == again.buckets.tables.catalog.names, (
        "leftovers are dropped"
    )
    await again.close()


async def test_a_folder_of_before_the_catalog_is_read_and_known_as_outdated(folder: DataFolder) -> None:
    old = MemoryStore(folder, RowFormat("e", 4, 1))
    await old.open()
    await old.add([row("old", 1)])
    bucket = old.buckets.number_of(ADA.value)
    entry, table = old.buckets[bucket].tables[0]
    data = await table.query().to_arrow()
    await old.buckets.tables._database.create_table(f"memories_{bucket:03d}", data)
    await old.close()
    (folder.path / "tables.json").unlink()
    await asyncio.to_thread(shutil.rmtree, folder.path / "lance" / f"{entry.name}.lance")
    now = MemoryStore(folder, MADE)
    await now.open()
    assert texts(await now.load(ADA)) == ["old"]
    assert now.outdated() == {bucket: RowFormat("e", 4, 1)}
    await now.close()


async def test_fifty_rounds_of_maintenance_leave_few_files_and_descriptors(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "_REBUILD_ROWS", 60)
    store = MemoryStore(folder_home(folder, compact_fragments=6), MADE)
    await store.open()
    held: list[tuple[int, int, int]] = []
    for round_ in range(50):
        for number in range(8):
            await store.add([row(f"r{round_} {number}", round_ * 8 + number)])
        await maintained(store)
        await store.sync()
        files = [path for path in (folder.path / "lance").rglob("*") if path.is_file()]
        held.append(
            (len(list(Path("/proc/self/fd").iterdir())), len(files), sum(path.stat().st_size for path in files))
        )
    assert len(await store.load(ADA)) == 400
    assert max(one[0] for one in held[25:]) <= max(one[0] for one in held[:25]) + 10, "descriptors"
    assert max(one[1] for one in held) < 700, "files: those of the last rebuild stay a while"
    assert held[-1][2] < 4_000_000, "bytes"
    fragments = [
        (await table.stats())["fragment_stats"]["num_fragments"]
        for _, table in store.buckets[store.buckets.number_of(ADA.value)].tables
    ]
    assert sum(fragments) < 30
    await store.close()


async def test_a_rebuild_that_fails_again_and_again_adds_no_tables(store: MemoryStore) -> None:
    await store.add([row("a", 1)])

    async def prepare(rows: list[Row]) -> list[Row]:
        raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await store.rebuilder.rebuild(store.buckets.number_of(ADA.value), MADE, prepare)
    assert len(store.buckets[store.buckets.number_of(ADA.value)].entries) == 2


async def test_what_another_embedder_made_is_not_taken_for_the_new_ones(store: MemoryStore, folder: DataFolder) -> None:
    await store.add([row("a", 1)])
    number, other = store.buckets.number_of(ADA.value), RowFormat("other", 4, 2)

    async def prepare(rows: list[Row]) -> list[Row]:
        await store.add([row("meanwhile", 2)])
        return [dataclasses.replace(one, embedder="other") for one in rows]

    await store.rebuilder.rebuild(number, other, prepare)
    with pytest.raises(StorageError, match="rebuilt meanwhile"):
        await store.add([row("late, of the same length", 3)])
    fresh = [dataclasses.replace(row(f"new {one}", 10 + one), embedder="other") for one in range(3)]
    await store.add(fresh)
    assert await maintained(store) == 0, "what is to be made anew is not merged as it is"
    store.buckets.row_format = other
    assert store.outdated() == {number: MADE}


async def test_a_crash_at_the_end_of_a_rebuild_leaves_a_bucket_that_takes_writes(
    store: MemoryStore, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add([row("a", 1)])
    number, other, enter = store.buckets.number_of(ADA.value), RowFormat("other", 8, 2), store.buckets.tables.enter

    async def prepare(rows: list[Row]) -> list[Row]:
        monkeypatch.setattr(store.buckets.tables, "enter", crash)
        return [dataclasses.replace(one, vector=np.ones(8, np.float32), embedder="other") for one in rows]

    async def crash(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(StorageError):
        await store.rebuilder.rebuild(number, other, prepare)
    monkeypatch.setattr(store.buckets.tables, "enter", enter)
    await store.close()
    again = MemoryStore(folder, other)
    await again.open()
    await again.add([row("b", 2)])
    assert texts(await again.load(ADA)) == ["a", "b"]
    await again.close()


async def test_a_growing_table_that_a_power_cut_took_is_begun_again(store: MemoryStore, folder: DataFolder) -> None:
    await store.add([row("a", 1)])
    number = store.buckets.number_of(ADA.value)
    await store.rebuilder.rebuild(number, MADE, None)
    lost = store.buckets[number].entries[-1].name
    await store.close()
    await asyncio.to_thread(shutil.rmtree, folder.path / "lance" / f"{lost}.lance")
    again = MemoryStore(folder, MADE)
    await again.open()
    await again.add([row("b", 2)])
    assert texts(await again.load(ADA)) == ["a", "b"]
    await again.close()


async def test_candidates_are_of_the_newest_versions(store: MemoryStore) -> None:
    await store.add([row(f"a{number}", number) for number in range(20)])
    await store.rebuilder.rebuild(store.buckets.number_of(ADA.value), MADE, None)
    deleted = dataclasses.replace(row("", 3).record, id=row("a3", 3).record.id, status="deleted", version=2)
    changed = dataclasses.replace(row("a4", 4).record, text="changed", version=2)
    far = -np.full(4, 0.5, np.float32)
    await store.put(
        [dataclasses.replace(row("", 9), record=one, vector=far, terms=("z",)) for one in (deleted, changed)],
    )
    found = texts(await store.near(ADA, ["a"], np.full(4, 0.5, np.float32)))
    assert "a3" not in found
    assert "a4" not in found
    assert "changed" in found
    assert len(found) == 19


class AgainstADict(RuleBasedStateMachine):
    """Writes, changes, deletions, rebuilds and restarts in any order: what is read is what a dict would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.path = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.kept: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.clock = 0
        self.folder = DataFolder(Path(self.path.name) / "data")
        self.folder.open(1, "e", 4)
        self.store = MemoryStore(self.folder, MADE)
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.close()
        self.path.cleanup()

    def _write(self, name: str, text: str, status: str, *, may_exist: bool) -> None:
        self.clock += 1
        self.versions[name] = self.versions.get(name, 0) + 1
        made = record(text, ord(name), id=name * 32, scope=ADA.value, status=status, version=self.versions[name])
        one = Row(record=made, vector=None, embedder="", terms=(), tokens=1, seq=self.clock)
        self.runner.run(self.store.put([one]) if may_exist else self.store.add([one]))

    @rule(name=st.sampled_from("abcdef"), number=st.integers(0, 99))
    def put(self, name: str, number: int) -> None:
        self.kept[name] = f"{name} {number}"
        self._write(name, self.kept[name], "activated", may_exist=name in self.versions)

    @rule(name=st.sampled_from("abcdef"))
    def delete(self, name: str) -> None:
        if self.kept.pop(name, None) is not None:
            self._write(name, "", "deleted", may_exist=True)

    @rule()
    def rebuild(self) -> None:
        if self.store.buckets[0].entries:
            self.runner.run(self.store.rebuilder.rebuild(0, MADE, None))

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.store = MemoryStore(self.folder, MADE)
        self.runner.run(self.store.open())

    @invariant()
    def the_same_is_there(self) -> None:
        loaded = self.runner.run(self.store.load(ADA))
        assert texts(loaded) == [self.kept[name] for name in sorted(self.kept)]


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)


async def test_a_table_without_the_column_of_metadata_gets_it(store: MemoryStore, folder: DataFolder) -> None:
    await store.add([row("an old memory", 1)])
    handle = store.buckets[store.buckets.number_of(ADA.value)].tables[0][1]
    await handle.drop_columns(["metadata"])
    await store.sync()
    await store.close()
    again = MemoryStore(folder, store.buckets.row_format)
    await again.open()
    await again.add([row("a new memory", 2, metadata={"scene": "sea"})])
    records = (await again.load(ADA)).records()
    assert [one.metadata for one in records] == [{}, {"scene": "sea"}]
    await again.close()
