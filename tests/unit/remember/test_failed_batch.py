from collections.abc import Iterable

import pytest

from gateway.embedding.embedders import EmbedFailed
from gateway.remember.failed_batch import FailedBatch
from gateway.storage.errors import LeaseLost, StorageError
from gateway.storage.values import JournalEntry
from tests.fakes.made import record

REJECTED = StorageError("store", "not this one")
OUTAGE = StorageError("store", "no disk", is_outage=True)


class Parts:
    """A journal, a store and a builder; `probe_error` is raised when they are checked."""

    def __init__(self, probe_error: Exception | None = None) -> None:
        self.probe_error = probe_error
        self.probes: list[str] = []
        self.failed: list[int] = []

    async def mark_failed(self, entries: Iterable[JournalEntry]) -> int:
        self.failed += [entry.seq for entry in entries]
        return 0

    async def probe(self, scope: str = "embedder") -> None:
        self.probes.append(scope)
        if self.probe_error is not None:
            raise self.probe_error


class Action:
    """Stores entries, except those that `errors` names by number."""

    def __init__(self, errors: dict[int, Exception]) -> None:
        self._errors = errors
        self.tried: list[int] = []

    async def __call__(self, entry: JournalEntry) -> None:
        self.tried.append(entry.seq)
        if entry.seq in self._errors:
            raise self._errors[entry.seq]


async def try_each(parts: Parts, action: Action) -> list[int]:
    entries = [JournalEntry(seq, record(str(seq), seq), 1, is_replay=False) for seq in (1, 2, 3)]
    batch = FailedBatch(parts, parts, parts)  # type: ignore[arg-type]  # parts of this test's own
    return [entry.seq for entry in await batch.try_each(entries, action)]


async def test_entries_that_cannot_be_stored_are_marked_and_delay_no_other() -> None:
    parts, action = Parts(), Action({2: REJECTED, 3: ValueError("neither")})
    assert await try_each(parts, action) == parts.failed == [2, 3]
    assert action.tried == [1, 2, 3]
    assert parts.probes == [], "the first entry was stored, so the parts work"


async def test_the_parts_are_checked_once_when_the_first_entry_fails() -> None:
    parts = Parts()
    assert await try_each(parts, Action({1: REJECTED, 2: REJECTED})) == parts.failed == [1, 2]
    assert parts.probes == [record("1").scope, "embedder"]


@pytest.mark.parametrize("error", [OUTAGE, LeaseLost("store", "of another gateway")], ids=["outage", "lease"])
async def test_no_try_is_counted_during_an_outage_or_without_the_lease(error: StorageError) -> None:
    parts, action = Parts(), Action({1: REJECTED, 2: error})
    with pytest.raises(StorageError) as raised:
        await try_each(parts, action)
    assert raised.value is error
    assert (action.tried, parts.failed) == ([1, 2], [])


@pytest.mark.parametrize("error", [OUTAGE, EmbedFailed("no answer")], ids=["store", "embedder"])
async def test_no_try_is_counted_if_a_part_does_not_work(error: Exception) -> None:
    parts, action = Parts(error), Action({1: REJECTED})
    with pytest.raises(type(error)):
        await try_each(parts, action)
    assert (action.tried, parts.failed) == ([1], [])


async def test_nothing_is_marked_if_all_can_be_stored() -> None:
    parts = Parts()
    assert await try_each(parts, Action({})) == parts.failed == []
