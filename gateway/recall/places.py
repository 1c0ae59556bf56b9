"""The conversations of a working set: neighbours of rows, and segments of a few messages."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.memory.kinds import MemoryKind, kind_of
from gateway.recall.arrays import Bools, Floats, Ints
from gateway.recall.columns import EXTRACTED_PREFERENCE, GROUP_CODES, Columns
from gateway.storage.rows import LoadedRows

__all__ = ["PLACE_FIELDS", "ConversationPlaces", "PlacedRow"]

_SEGMENT_MESSAGES = 16  # messages
_LONG_ANSWER = 100  # tokens; a longer answer would be a neighbour of all messages near it
_FIRST_CAPACITY = 64
_SESSION_BYTES = 300  # of a conversation: its id, its end

PLACE_FIELDS: Final = ("session_id", "message_id", "kind", "source", "part")
"""The fields of a record that determine its place in its conversation."""


class PlacedRow(NamedTuple):
    """The values of a row that determine its place in its conversation."""

    row: int
    session_id: str
    message_id: str
    kind: str
    source: str
    part: int
    is_extracted: bool


@dataclass(slots=True)
class _End:
    """The end of a conversation: its newest row, its newest segment (`segment`), and how many messages that has."""

    last: int = -1
    segment: int = -1
    messages: int = 0
    message_id: str = ""


class ConversationPlaces:
    """The conversations of one set, whose columns say where each row is."""

    def __init__(self) -> None:
        self._ends: dict[str, _End] = {}
        self._lengths = np.zeros(_FIRST_CAPACITY, np.float32)  # terms of each segment
        self._segments = 0

    @property
    def segment_lengths(self) -> Floats:
        """The number of terms of each segment."""
        return self._lengths[: self._segments]

    @property
    def nbytes(self) -> int:
        return self._lengths.nbytes + _SESSION_BYTES * len(self._ends)

    def last(self, session_id: str) -> int:
        """The newest row of a conversation; -1 if there is none."""
        end = self._ends.get(session_id)
        return -1 if end is None else end.last

    def put(self, columns: Columns, placed: PlacedRow, length: int) -> None:
        """Put a row at the end of its conversation; messages and documents become neighbours."""
        kind = kind_of(placed.kind)
        end = self._ends.setdefault(placed.session_id, _End())
        if end.segment < 0 or (end.messages >= _SEGMENT_MESSAGES and not placed.part):
            end.segment, end.messages = self._segments, 0
            self._add_segments(np.zeros(1, np.float32))
        end.messages += not placed.part
        self._lengths[end.segment] += length
        columns["segment"][placed.row] = end.segment
        columns["group"][placed.row] = _group_code(kind, is_extracted=placed.is_extracted)
        columns["from_user"][placed.row] = placed.source == "user"
        columns["is_extracted"][placed.row] = placed.is_extracted
        if placed.source != "user" and (placed.part or columns["tokens"][placed.row] > _LONG_ANSWER):
            columns["is_long"][placed.row] = True
            if placed.part and end.message_id == placed.message_id:
                columns["is_long"][end.last] = True  # the first piece of several
        if kind.has_neighbours:
            columns["before"][placed.row] = end.last
            if end.last >= 0:
                columns["after"][end.last] = placed.row
            end.last, end.message_id = placed.row, placed.message_id

    def remove(self, columns: Columns, row: int, session_id: str) -> None:
        """Join the neighbours of a removed row, the last of its conversation or not."""
        before, after = int(columns["before"][row]), int(columns["after"][row])
        if before >= 0:
            columns["after"][before] = after
        if after >= 0:
            columns["before"][after] = before
        elif self._ends[session_id].last == row:
            self._ends[session_id].last = before

    def fill(self, columns: Columns, loaded: LoadedRows, active: NDArray[np.intp], lengths: Ints) -> None:
        """Put all these rows of loaded tables, as `put` does one by one; there must be none yet. `is_extracted` and
        `tokens` must be among the columns. `lengths`: terms of every row."""
        kinds, kind_names = loaded.codes("kind")
        for name, is_extracted in ((name, flag) for name in range(len(kind_names)) for flag in (False, True)):
            rows = active[(kinds[active] == name) & (columns["is_extracted"][active] == is_extracted)]
            columns["group"][rows] = _group_code(kind_of(kind_names[name]), is_extracted=is_extracted)
        columns["from_user"][active] = loaded.equal("source", "user")[active]
        codes, session_ids = loaded.codes("session_id")
        rows = active[np.argsort(codes[active], kind="stable")]  # one conversation after the other
        if not len(rows):
            return
        begins = np.flatnonzero(np.diff(codes[rows], prepend=-1))
        whole = loaded.numbers("part")[rows] == 0
        ends = self._divide(columns, rows, begins, whole, lengths)
        linked = np.asarray([kind_of(name).has_neighbours for name in kind_names], np.bool_)[kinds[rows]]
        for end, row in zip(ends, _link(columns, loaded, rows, begins, (whole, linked)), strict=True):
            end.last = row
        last = np.asarray([end.last for end in ends])
        for end, message_id in zip(ends, loaded.strings("message_id", np.maximum(last, 0)), strict=True):
            end.message_id = message_id if end.last >= 0 else ""
        self._ends = dict(zip((session_ids[code] for code in codes[rows[begins]].tolist()), ends, strict=True))

    def _divide(
        self, columns: Columns, rows: NDArray[np.intp], begins: NDArray[np.intp], whole: Bools, lengths: Ints
    ) -> list[_End]:
        """Divide conversations into segments. Returns the end of each. `begins`: of the conversations in `rows`;
        `whole`: True for messages, and the first piece of one."""
        sizes = np.diff(begins, append=len(rows))
        messages = np.cumsum(whole, dtype=np.int64)
        messages -= np.repeat(messages[begins] - whole[begins], sizes)
        within = np.maximum(messages - 1, 0) // _SEGMENT_MESSAGES  # the place of each segment in its conversation
        is_start = np.diff(within, prepend=0) != 0
        is_start[begins] = True
        starts = rows[is_start]
        numbers = np.empty(len(starts), np.int32)
        numbers[np.argsort(starts)] = np.arange(len(starts), dtype=np.int32)
        segments = numbers[np.cumsum(is_start) - 1]
        columns["segment"][rows] = segments
        self._add_segments(np.bincount(segments, lengths[rows]).astype(np.float32))
        last = begins + sizes - 1
        counts = messages[last] - within[last] * _SEGMENT_MESSAGES
        return [_End(-1, *values) for values in zip(segments[last].tolist(), counts.tolist(), strict=True)]

    def _add_segments(self, lengths: Floats) -> None:
        count = self._segments + len(lengths)
        if count > len(self._lengths):
            more = max(count, len(self._lengths) * 3 // 2) - len(self._lengths)
            self._lengths = np.concatenate([self._lengths, np.zeros(more, np.float32)])
        self._lengths[self._segments : count] = lengths
        self._segments = count


def _link(
    columns: Columns,
    loaded: LoadedRows,
    rows: NDArray[np.intp],
    begins: NDArray[np.intp],
    marks: tuple[Bools, Bools],
) -> list[int]:
    """Link the neighbours in conversations, and mark long answers. Returns the last row of each conversation that has
    neighbours, or -1. `marks`: as in `_divide`, and True for rows that have neighbours."""
    whole, linked = marks
    sizes = np.diff(begins, append=len(rows))
    first = np.repeat(begins, sizes)
    latest = np.maximum.accumulate(np.where(linked, np.arange(len(rows)), -1))
    earlier = np.append(-1, latest[:-1])
    earlier[earlier < first] = -1
    places = np.flatnonzero(linked & (earlier >= 0))
    columns["before"][rows[places]] = rows[earlier[places]]
    columns["after"][rows[earlier[places]]] = rows[places]
    is_long = (columns["from_user"][rows] == 0) & (~whole | (columns["tokens"][rows] > _LONG_ANSWER))
    columns["is_long"][rows] = is_long
    pieces = np.flatnonzero(is_long & ~whole & (earlier >= 0))
    if len(pieces):
        own, previous = (loaded.strings("message_id", rows[places]) for places in (pieces, earlier[pieces]))
        is_same = np.asarray([one == other for one, other in zip(own, previous, strict=True)], np.bool_)
        columns["is_long"][rows[earlier[pieces[is_same]]]] = True  # the first piece of several
    last = begins + sizes - 1
    ends: list[int] = np.where(latest[last] >= begins, rows[latest[last]], -1).tolist()
    return ends


def _group_code(kind: MemoryKind, *, is_extracted: bool) -> int:
    is_preference = kind.group == "preference" and is_extracted
    return EXTRACTED_PREFERENCE if is_preference else GROUP_CODES[kind.group][0]
