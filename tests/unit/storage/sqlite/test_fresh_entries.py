import pytest

from gateway.storage.sqlite import fresh_entries as entries_module
from gateway.storage.sqlite.fresh_entries import FreshEntries
from gateway.storage.values import JournalEntry
from tests.fakes.made import record


def entry(seq: int) -> JournalEntry:
    return JournalEntry(seq, record(f"text {seq}", seq), 10, is_replay=False)


def seqs(fresh: FreshEntries) -> list[int]:
    return [entry.seq for entry in fresh.first(100)]


def test_entries_that_were_read_from_the_file_are_not_added_again() -> None:
    fresh = FreshEntries()
    fresh.add([entry(3)])
    fresh.complete([entry(1), entry(2), entry(3)])
    fresh.add([entry(2), entry(3), entry(4)])
    assert seqs(fresh) == [1, 2, 3, 4]
    fresh.remove({1, 2})
    assert seqs(fresh) == [3, 4]
    fresh.remove({6})
    fresh.add([entry(5), entry(6), entry(7)])
    assert seqs(fresh) == [3, 4, 7], "5 and 6 were read from the file meanwhile"
    assert fresh.is_complete


def test_too_many_entries_are_read_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "_MAX_ENTRIES", 3)
    fresh = FreshEntries()
    fresh.complete([])
    fresh.add(map(entry, range(1, 5)))
    assert (seqs(fresh), fresh.is_complete, fresh.losses) == ([], False, 1)


def test_an_entry_removed_from_the_middle_makes_the_rest_incomplete() -> None:
    fresh = FreshEntries()
    fresh.complete([entry(1), entry(2), entry(3)])
    fresh.remove({2})
    assert not fresh.is_complete
