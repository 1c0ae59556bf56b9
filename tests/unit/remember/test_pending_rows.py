from gateway.remember.pending_rows import PendingRows
from gateway.storage.values import JournalEntry
from tests.fakes.made import record
from tests.unit.recall.test_working_set import row


def due(pending: PendingRows, up_to: int = 0) -> list[int]:
    return [entry.seq for entry, _ in pending.due_rows(up_to)]


def grouped(scopes: str, *, window: float = 60, batch: int = 9, most: int = 100) -> PendingRows:
    """Rows of these scopes, whose group is the scope's digit."""
    pending = PendingRows(window=window, batch=batch, most=most, group_of=lambda scope: int(scope[0]))
    entries = [JournalEntry(seq, record(str(seq)), 1, is_replay=False) for seq in range(1, len(scopes) + 1)]
    pending.add(entries, [row(str(seq), scope=scope * 64) for seq, scope in enumerate(scopes, 1)])
    return pending


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


def test_a_group_is_due_by_its_own_rows_and_age() -> None:
    assert due(grouped("12121", batch=4)) == []
    assert due(grouped("12121", window=0)) == [1, 3, 5]
    pending = grouped("12121", batch=3)
    assert due(pending) == [1, 3, 5], "the first group has three rows"
    pending.remove({1, 3, 5})
    assert (len(pending), pending.first_seq) == (2, 2)
    assert due(pending, up_to=1) == []
    assert due(pending, up_to=2) == [2, 4]


def test_the_largest_group_is_due_when_there_are_too_many_rows_in_all() -> None:
    assert due(grouped("1222133", most=8)) == []
    pending = grouped("1222133", most=7)
    assert due(pending) == [2, 3, 4]
    assert [entry.seq for entry, _ in pending.all()] == [1, 2, 3, 4, 5, 6, 7]
