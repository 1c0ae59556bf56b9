"""A working set: the memories of one scope in RAM, laid out for ranking.

Vectors stand in one matrix, words in an inverted index, what filters and ranking need in columns. Rows are appended
and struck out, never moved. Archived memories are held too, to be listed, but are never ranked. A set is touched by one
thread at a time (its owner's); it knows neither clock nor store.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.recall.rank import RankWeights, SetArrays, bm25, rank, relativity
from gateway.store.memories import Row
from gateway.turn import Memory, Record, group_of

__all__ = ["WorkingSet"]

Filter = Callable[[Record], bool]

_GROUPS = {"text": 0, "preference": 1, "tool": 2, "skill": 3}
_ROW_OVERHEAD = 1200  # bytes of one row beside its vector and text: record, postings, columns


class WorkingSet:
    """The memories of one scope. `nbytes` is an estimate of what it takes."""

    def __init__(self, dimensions: int, embedder: str) -> None:
        self._embedder = embedder
        self._records: list[Record] = []
        self._row_of: dict[str, int] = {}
        self._postings: dict[str, tuple[array[int], array[float]]] = {}
        self._sessions: dict[str, int] = {}
        self._last_of_session: list[int] = []
        self._vectors = np.zeros((64, dimensions), np.float32)
        self._columns: dict[str, NDArray[Any]] = {
            "tokens": np.zeros(64, np.int32),
            "session": np.zeros(64, np.int32),
            "before": np.full(64, -1, np.int32),
            "after": np.full(64, -1, np.int32),
            "length": np.zeros(64, np.float32),
            "from_user": np.zeros(64, np.bool_),
            "group": np.zeros(64, np.int8),
            "alive": np.zeros(64, np.bool_),
        }
        self._corrections: dict[int, tuple[str, ...]] = {}
        self._alive = 0
        self._total_length = 0.0
        self._text_bytes = 0

    def __len__(self) -> int:
        return self._alive

    @property
    def nbytes(self) -> int:
        return self._vectors.nbytes + len(self._records) * _ROW_OVERHEAD + self._text_bytes

    def put(self, rows: Sequence[Row]) -> None:
        """Add rows; one whose id is there replaces it."""
        self._reserve(len(self._records) + len(rows))
        for row in rows:
            self.remove(row.record.id)
            if row.record.status != "deleted":
                self._append(row)

    def remove_all(self, memory_ids: Iterable[str]) -> None:
        for memory_id in memory_ids:
            self.remove(memory_id)

    def remove(self, memory_id: str) -> None:
        """Strike a memory out; unknown ids are no error."""
        index = self._row_of.pop(memory_id, None)
        if index is None:
            return
        columns = self._columns
        self._corrections.pop(index, None)
        if not columns["alive"][index]:
            return
        columns["alive"][index] = False
        self._alive -= 1
        self._total_length -= float(columns["length"][index])
        before, after = int(columns["before"][index]), int(columns["after"][index])
        if before >= 0:
            columns["after"][before] = after
        if after >= 0:
            columns["before"][after] = before
        elif self._last_of_session[int(columns["session"][index])] == index:
            self._last_of_session[int(columns["session"][index])] = before

    def search(
        self,
        terms: Sequence[str],
        vector: NDArray[np.float32] | None,
        limit: int,
        weights: RankWeights,
        *,
        allows: Filter | None = None,
        group: str = "text",
    ) -> list[Memory]:
        """The best `limit` memories of a group, best first. Filters apply before ranking."""
        count = len(self._records)
        if not self._alive:
            return []
        columns: dict[str, Any] = {name: column[:count] for name, column in self._columns.items()}
        allowed = columns["alive"] & (columns["group"] == _GROUPS[group])
        if not allowed.any():
            return []
        if allows is not None:
            passed = np.zeros(count, np.bool_)
            asked = np.flatnonzero(allowed)
            passed[asked] = [allows(self._records[row]) for row in asked]
            allowed = passed
        lexical, most = bm25(self._query_postings(terms), columns["length"], self._total_length / self._alive, count)
        cosine = None if vector is None else self._vectors[:count] @ vector
        arrays = SetArrays(
            tokens=columns["tokens"],
            from_user=columns["from_user"],
            session=columns["session"],
            before=columns["before"],
            after=columns["after"],
            allowed=allowed,
            outranks=self._outranks(),
        )
        rows, scores = rank(arrays, lexical, cosine, weights, limit)
        relevance = relativity(lexical[rows], most, None if cosine is None else cosine[rows])
        return [
            Memory(self._records[row], float(score), float(share), int(columns["tokens"][row]))
            for row, score, share in zip(rows.tolist(), scores.tolist(), relevance.tolist(), strict=True)
        ]

    def records(self, allows: Filter | None = None) -> list[Record]:
        """All memories that a filter allows, archived ones included, oldest first."""
        held = (self._records[row] for row in sorted(self._row_of.values()))
        return [record for record in held if allows is None or allows(record)]

    def find(self, memory_id: str) -> Record | None:
        row = self._row_of.get(memory_id)
        return None if row is None else self._records[row]

    def latest(self, session_id: str, limit: int) -> list[Record]:
        """The newest `limit` records of a conversation, oldest first."""
        session = self._sessions.get(session_id)
        if session is None:
            return []
        found: list[Record] = []
        index = self._last_of_session[session]
        while index >= 0 and len(found) < limit:
            found.append(self._records[index])
            index = int(self._columns["before"][index])
        return found[::-1]

    def _append(self, row: Row) -> None:
        record, index, columns = row.record, len(self._records), self._columns
        self._records.append(record)
        self._row_of[record.id] = index
        self._text_bytes += 2 * len(record.text)
        columns["alive"][index] = record.status == "activated"
        if record.status != "activated":
            return
        if record.links and record.info.get("corrects"):
            self._corrections[index] = record.links
        if row.vector is not None and row.embedder == self._embedder:
            self._vectors[index] = row.vector
        frequencies = dict.fromkeys(row.terms, 1)
        if len(frequencies) < len(row.terms):
            frequencies = Counter(row.terms)
        for term, frequency in frequencies.items():
            posting = self._postings.get(term)
            if posting is None:
                posting = self._postings[term] = (array("i"), array("f"))
            posting[0].append(index)
            posting[1].append(frequency)
        session = self._sessions.setdefault(record.session_id, len(self._sessions))
        if session == len(self._last_of_session):
            self._last_of_session.append(-1)
        if group_of(record.kind) == "text":
            self._link(index, session)
        columns["tokens"][index] = row.tokens
        columns["session"][index] = session
        columns["length"][index] = len(row.terms)
        columns["from_user"][index] = record.source == "user"
        columns["group"][index] = _GROUPS[group_of(record.kind)]
        self._alive += 1
        self._total_length += len(row.terms)

    def _link(self, index: int, session: int) -> None:
        """The newest text of a conversation: after the one before it."""
        columns, last = self._columns, self._last_of_session[session]
        columns["before"][index] = last
        if last >= 0:
            columns["after"][last] = index
        self._last_of_session[session] = index

    def _outranks(self) -> list[tuple[int, int]]:
        """Rows of corrections, each with a row that it corrects."""
        return [
            (index, self._row_of[corrected])
            for index, links in self._corrections.items()
            for corrected in links
            if corrected in self._row_of
        ]

    def _query_postings(self, terms: Sequence[str]) -> list[tuple[float, Any, Any]]:
        found = []
        for term in dict.fromkeys(terms):
            posting = self._postings.get(term)
            frequency = len(posting[0]) if posting else 0
            idf = (
                float(np.log(1 + (self._alive - frequency + 0.5) / (frequency + 0.5)))
                if frequency <= self._alive
                else 0.0
            )
            rows = np.frombuffer(posting[0], np.int32) if posting else np.empty(0, np.int32)
            counts = np.frombuffer(posting[1], np.float32) if posting else np.empty(0, np.float32)
            found.append((idf, rows, counts))
        return found

    def _reserve(self, count: int) -> None:
        capacity = len(self._vectors)
        if count <= capacity:
            return
        while capacity < count:
            capacity += max(64, capacity // 2)
        vectors = np.zeros((capacity, self._vectors.shape[1]), np.float32)
        vectors[: len(self._records)] = self._vectors[: len(self._records)]
        self._vectors = vectors
        for name, column in self._columns.items():
            grown = np.full(capacity, -1 if name in ("before", "after") else 0, column.dtype)
            grown[: len(self._records)] = column[: len(self._records)]
            self._columns[name] = grown
