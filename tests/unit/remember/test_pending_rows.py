from typing import Any

import pytest

from gateway.remember.pending_rows import PendingRows
from gateway.storage.values import JournalEntry
from tests.fakes.made import record
from tests.unit.recall.test_working_set import row


def due(pending: PendingRows, up_to: int = 0) -> list[int]:
    return [entry.seq for entry, _ in pending.due_rows(up_to)]


def test_rows_stay_in_the_order_of_the_journal() -> None:
    pending = PendingRows(window=60, batch=2, most=9)
    entries = [JournalEntry(seq, record(str(seq)), 1, is_replay=False) for seq in range(1, 6)]
    rows = [row(str(seq)) for seq in range(1, 6)]
    pending.add(entries[:2], rows[:2])
    first_at = pending.due_at
    pending.add(entries[2:], rows[2:])
    assert (len(pending), pending.first_seq, pending.last_seq, pending.due_at) == (5, 1, 5, first_at)
    assert due(pending) == [1, 2]
    pending.remove({1, 2, 4})
    assert [entry.seq for entry, _ in pending.all()] == [3, 5]
    assert pending.due_at >= first_at


@pytest.mark.parametrize(
    ("limits", "up_to", "expected"),
    [
        ({"window": 60, "batch": 4, "most": 9}, 0, []),
        ({"window": 60, "batch": 4, "most": 9}, 1, [1, 2, 3]),
        ({"window": 0, "batch": 4, "most": 9}, 0, [1, 2, 3]),
        ({"window": 60, "batch": 2, "most": 9}, 0, [1, 2]),
        ({"window": 60, "batch": 4, "most": 3}, 0, [1, 2, 3]),
    ],
    ids=["neither", "requested", "old", "a batch", "too many"],
)
def test_rows_are_due_by_request_age_or_number(limits: dict[str, Any], up_to: int, expected: list[int]) -> None:
    pending = PendingRows(**limits)
    assert due(pending, up_to) == []
    entries = [JournalEntry(seq, record(str(seq)), 1, is_replay=False) for seq in range(1, 4)]
    pending.add(entries, [row(str(seq)) for seq in range(1, 4)])
    assert due(pending, up_to) == expected
