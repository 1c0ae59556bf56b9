import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.maintenance.recovery import recover
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row, RowFormat
from gateway.storage.sqlite.journal import Journal
from gateway.turn import Record, Scope
from tests.fakes.made import record

ADA = Scope("a" * 64, "default", "ada")
MADE = RowFormat("e", 4, 2)


def said(text: str, number: int) -> Record:
    return record(text, number, scope=ADA.value)


async def store_all(journal: Journal, store: MemoryStore) -> None:
    entries = await journal.waiting(100)
    rows = [
        Row(
            record=one.record,
            vector=np.ones(4, np.float32),
            embedder="e",
            terms=tuple(one.record.text.split()),
            tokens=3,
            seq=one.seq,
        )
        for one in entries
    ]
    await store.put(rows)
    journal.mark_stored(entries)
    await store.sync()
    await journal.mark_synced()


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("damage", ["manifest", "data", "both", "cut manifest", "cut data", "all manifests"])
async def test_what_a_power_cut_took_of_the_store_comes_back_from_the_journal(tmp_path: Path, damage: str) -> None:
    folder = DataFolder(tmp_path / "data")
    await asyncio.to_thread(folder.open, 1, "e", 4)
    store = MemoryStore(folder, MADE)
    await store.open()
    journal = Journal(folder.path / "journal.sqlite", 10**9, lambda: None)
    await journal.open()
    expected = []
    for number in range(6):
        await journal.append([said(f"text {number}", number)])
        expected.append(f"text {number}")
        await store_all(journal, store)
    await journal.append(
        [
            replace(said("text 2", 2), text="", status="deleted", version=2),
            replace(said("text 3", 3), text="changed", version=2),
        ]
    )
    expected[3] = "changed"
    expected.remove("text 2")
    await store_all(journal, store)
    await store.close()
    lance = folder.path / "lance"
    if damage in ("manifest", "both"):
        newest(lance, "*.manifest").write_bytes(b"")
    if damage in ("data", "both"):
        newest(lance, "*.lance/data/*.lance").write_bytes(b"")
    if damage.startswith("cut"):
        file = newest(lance, "*.manifest" if damage == "cut manifest" else "*.lance/data/*.lance")
        file.write_bytes(file.read_bytes()[:-20])
    if damage == "all manifests":
        for file in lance.rglob("*.manifest"):
            file.write_bytes(b"")
    store = MemoryStore(folder, MADE)
    await store.open()
    assert store.repaired
    assert await recover(journal, store) > 0
    while journal.backlog_entries:
        await store_all(journal, store)
    held = (await store.load(ADA)).records()
    assert [one.text for one in held] == expected
    assert list((folder.path / "broken").iterdir()), "nothing is thrown away"
    await store.close()
    again = MemoryStore(folder, MADE)
    await again.open()
    assert not again.repaired, "it is whole again"
    assert await recover(journal, again) == 0
    await again.close()
    await journal.close()
    folder.close()


async def test_only_entries_that_are_not_in_the_store_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DataFolder(tmp_path / "data")
    await asyncio.to_thread(folder.open, 2, "e", 4)
    store = MemoryStore(folder, MADE)
    await store.open()
    journal = Journal(folder.path / "journal.sqlite", 10**9, lambda: None)
    await journal.open()
    one, two, three = (said(f"text {number}", number) for number in range(3))
    await journal.append([one, two, three])
    await store_all(journal, store)
    await journal.append([replace(two, text="changed", version=2)])
    await store_all(journal, store)
    compared: list[str] = []
    versions = MemoryStore.versions

    async def note(self: MemoryStore, records: Iterable[Record]) -> dict[str, tuple[int, str]]:
        compared.extend(record.text for record in records)
        return await versions(self, records)

    monkeypatch.setattr(MemoryStore, "versions", note)
    assert await recover(journal, store) == 0
    assert len(compared) <= 1, "at most the text before the change"
    # a number says nothing without the id: a journal that was replaced counts from the beginning
    other = Journal(tmp_path / "other.sqlite", 10**9, lambda: None)
    await other.open()
    await other.append([said("of another journal", 9)])
    (entry,) = await other.waiting(10)
    other.mark_stored([entry])
    await other.mark_synced()
    assert await recover(other, store) == 1
    assert compared[-1] == "of another journal"
    await other.close()
    await store.close()
    await journal.close()
    folder.close()
