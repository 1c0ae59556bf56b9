"""Stored rows are placed at once, new ones one by one: both must give the same columns."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.recall.columns import make_columns
from gateway.recall.places import ConversationPlaces, PlacedRow
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import LoadedRows, Row
from tests.fakes.made import record

PLACES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 3),
        st.sampled_from(["turn", "turn", "turn", "document", "fact", "preference", "tool"]),
        st.sampled_from(["user", "assistant"]),
        st.sampled_from([0, 0, 0, 1]),
        st.booleans(),
        st.integers(1, 150),
        st.booleans(),
    ),
    max_size=60,
)
NAMES = ("segment", "group", "from_user", "is_long", "before", "after")


@settings(max_examples=150, deadline=None)
@given(PLACES)
def test_rows_are_placed_at_once_as_one_by_one(rows: list[tuple[str, int, str, str, int, bool, int, bool]]) -> None:
    stored = [
        Row(
            record=record(
                f"text {number}",
                number,
                session_id=session,
                message_id=f"m{message}",
                kind=kind,
                source=source,
                part=part,
            ),
            vector=None,
            embedder="",
            terms=(),
            tokens=tokens,
        )
        for number, (session, message, kind, source, part, _, tokens, _) in enumerate(rows)
    ]
    lengths = np.arange(1, len(rows) + 1, dtype=np.int32)
    alone, together = (make_columns() for _ in range(2))
    one_by_one, at_once = ConversationPlaces(), ConversationPlaces()
    for columns in (alone, together):
        columns["tokens"][: len(rows)] = [place[6] for place in rows]
    together["is_extracted"][: len(rows)] = [place[5] for place in rows]
    active = np.flatnonzero([place[7] for place in rows])
    for row in active.tolist():
        session, message, kind, source, part, is_extracted, _, _ = rows[row]
        placed = PlacedRow(row, session, f"m{message}", kind, source, part, is_extracted)
        one_by_one.put(alone, placed, int(lengths[row]))
    if stored:
        at_once.fill(together, LoadedRows([to_arrow(stored, 4)]), active, lengths)
    for name in NAMES:
        assert alone[name][active].tolist() == together[name][active].tolist(), name
    assert one_by_one.segment_lengths.tolist() == at_once.segment_lengths.tolist()
    for session in "abcd":
        assert one_by_one.last(session) == at_once.last(session)
    for number, session in product(range(1, 20), "abc"):  # both go on alike
        for conversations, columns in ((one_by_one, alone), (at_once, together)):
            conversations.put(columns, PlacedRow(len(rows), session, f"n{number}", "turn", "user", 0, False), 2)
        assert alone["segment"][len(rows)] == together["segment"][len(rows)]
        assert alone["before"][len(rows)] == together["before"][len(rows)]
