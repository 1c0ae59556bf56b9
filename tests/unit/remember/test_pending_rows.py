from gateway.remember.pending_rows import PendingRows
from gateway.storage.values import JournalEntry
from tests.fakes.made import record
from tests.unit.recall.test_working_set import row


def test_rows_stay_in_the_order_of_the_journal() -> None:
    pending = PendingRows()
    entries = [JournalEntry(seq, record(str(seq)), 1, is_replay=False) for seq in range(1, 6)]
    rows = [row(str(seq)) for seq in range(1, 6)]
    pending.add(entries[:2], rows[:2])
    first_at = pending.oldest_at
    pending.add(entries[2:], rows[2:])
    assert (len(pending), pending.first_seq, pending.last_seq, pending.oldest_at) == (5, 1, 5, first_at)
    assert pending.first(2) == list(zip(entries[:2], rows[:2], strict=True))
    pending.remove({1, 2, 4})
    assert [entry.seq for entry, _ in pending.first()] == [3, 5]
    assert pending.oldest_at >= first_at
