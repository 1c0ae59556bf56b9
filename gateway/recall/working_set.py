"""A working set: the memories of one scope in RAM, laid out for ranking.

Vectors are in one matrix, words in an inverted index, the values for filters and ranking in columns. Rows are appended
and marked as removed, never moved. A conversation is divided into segments of a few messages. Archived
memories are listed, but never ranked. One thread at a time (see `WorkingSets`); uses neither clock nor store.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.calibration import Calibration
from gateway.memory.annotations import RowFlag, flags_of
from gateway.memory.kinds import kind_of
from gateway.memory.profile import beyond_cap, in_force
from gateway.memory.recalled import Memory
from gateway.memory.record import Record
from gateway.recall.candidates import pool
from gateway.recall.columns import (
    EXTRACTED_PREFERENCE,
    GROUP_CODES,
    PLACE_FIELDS,
    PROFILE_CODES,
    Columns,
    PlacedRow,
    SessionEnd,
    grow_columns,
    is_of,
    make_columns,
)
from gateway.recall.dated import is_within
from gateway.recall.precedence import OrderingConstraints
from gateway.recall.probes import probe, probe_request
from gateway.recall.query import Query
from gateway.recall.rank import Posting, Ranked, RankWeights, RawScores, SetArrays, bm25, rank, score
from gateway.recall.relevance import (
    is_stated,
    is_superfluous,
    lift,
    measure_coverage,
    measure_evidence,
    relevance_of,
    score_segments,
)
from gateway.recall.signals import (
    NO_CANDIDATES,
    Candidates,
    ScoredRows,
    linked_places,
    measure_match,
    requests_of,
    signal_matrix,
)
from gateway.recall.term_index import TermIndex
from gateway.recall.vectors import RowVectors
from gateway.storage.rows import LoadedRows, Row
from gateway.text.dates import Period

__all__ = ["WorkingSet"]

Allows = Callable[[Record], bool]
Vector = NDArray[np.float32]

_ROW_BYTES = 250  # of one row beside vector, text and record: its id, its place, columns
_RECORD_BYTES = 600  # of a record beside its text
_SEGMENT_MESSAGES = 16  # messages
_LONG_ANSWER = 100  # tokens; a longer answer would be a neighbour of all messages near it
_FREE_TOKENS = 30  # the length at which the score has no penalty
_NO_SCALE = Calibration(unrelated=0.0, related=1.0)
_WASTE_ALLOWED = 1000  # removed rows that still take memory


class WorkingSet:
    """The memories of one scope. `embedder`: the name of the vectors' embedder; `nbytes` estimates the size in RAM."""

    def __init__(self, dimensions: int, embedder: str) -> None:
        self.embedder = embedder
        self._records: list[Record | None] = []  # None: still in `_loaded`, where it takes a third of the memory
        self._loaded: LoadedRows | None = None
        self._loaded_bytes = self._record_bytes = 0  # stored, since other threads read the size
        self._row_of: dict[str, int] = {}
        self._index = TermIndex()
        self._sessions: dict[str, SessionEnd] = {}
        self._segment_lengths: list[int] = []  # terms of each
        self._vectors = RowVectors(dimensions)
        self._columns = make_columns()
        self._constraints = OrderingConstraints()
        self._about: dict[int, Period] = {}  # rows about another time than their own
        self._profile: tuple[Memory, ...] | None = None  # None: not computed yet
        self._alive = 0
        self._total_length = 0.0

    def __len__(self) -> int:
        return self._alive

    @property
    def nbytes(self) -> int:
        records = len(self._records) * _ROW_BYTES + self._record_bytes + self._loaded_bytes
        return self._vectors.nbytes + self._index.nbytes + records

    @property
    def is_wasteful(self) -> bool:
        """True if more rows are removed than in use, so that reloading is worth it."""
        return len(self._records) - len(self._row_of) > len(self._row_of) + _WASTE_ALLOWED

    def put(self, rows: Sequence[Row]) -> None:
        """Add rows; a row with a known id replaces the earlier one."""
        latest = {row.record.id: row for row in rows}
        for memory_id in latest:
            self.remove(memory_id)
        added = [row for row in latest.values() if row.record.status != "deleted"]
        self._reserve(len(self._records) + len(added))
        first = len(self._records)
        lengths = self._index.add(first, [row.terms if row.record.status == "activated" else () for row in added])
        for index, (row, length) in enumerate(zip(added, lengths.tolist(), strict=True), first):
            self._append(index, row, length)

    def fill(self, loaded: LoadedRows) -> None:
        """Add all rows of loaded tables; the set must be empty. Records are built on first use."""
        count = len(loaded)
        if not count:
            return
        self._reserve(count)
        self._loaded = loaded
        self._records = [None] * count
        ids, columns = loaded.strings("id"), self._columns
        self._row_of = {id_: row for row, id_ in enumerate(ids)}
        is_active = np.asarray([status == "activated" for status in loaded.strings("status")], np.bool_)
        words, numbers, lengths = loaded.terms()
        numbers, lengths = numbers[np.repeat(is_active, lengths)], np.where(is_active, lengths, 0)
        self._index.add_numbered(0, words, numbers, lengths.astype(np.int32))
        self._vectors.put(0, loaded.vectors(self.embedder, self._vectors.dimensions))
        columns["alive"][:count] = is_active
        columns["length"][:count] = lengths
        columns["tokens"][:count] = loaded.numbers("tokens")
        columns["form"][:count] = loaded.numbers("form")
        columns["worth"][:count] = loaded.numbers("worth")
        columns["at"][:count] = loaded.seconds("event_time")
        self._about = {row: period for row, period in loaded.about().items() if is_active[row]}
        columns["price"][:count] = np.log(np.maximum(loaded.numbers("tokens"), 1) / _FREE_TOKENS)
        columns["doubt"][:count] = is_active & (loaded.flags() & RowFlag.SUSPICIOUS > 0)
        self._alive, self._total_length = int(is_active.sum()), float(lengths.sum())
        self._constraints.fill(loaded)
        places = zip(*(loaded.numbers(name).tolist() for name in PLACE_FIELDS), strict=True)
        for row, fields in enumerate(places):
            if is_active[row]:
                self._place(PlacedRow._make((row, *fields, self._constraints.is_extracted(row))), int(lengths[row]))
        loaded.shed()
        self._loaded_bytes = loaded.nbytes

    def remove_all(self, memory_ids: Iterable[str]) -> None:
        for memory_id in memory_ids:
            self.remove(memory_id)

    def remove(self, memory_id: str) -> None:
        """Remove a memory; unknown ids are ignored."""
        index = self._row_of.pop(memory_id, None)
        if index is None:
            return
        columns = self._columns
        self._constraints.remove(index)
        if columns["group"][index] in PROFILE_CODES:
            self._profile = None
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
        else:
            session = self._sessions[self._at([index])[0].session_id]
            session.last = before if session.last == index else session.last

    def search(
        self,
        terms: Sequence[str],
        vector: Vector | None,
        limit: int,
        weights: RankWeights,
        *,
        scale: Calibration = _NO_SCALE,
        allows: Allows | None = None,
        group: str = "text",
        periods: Sequence[Period] = (),
    ) -> list[Memory]:
        """The best `limit` memories of a group, best first. Filters apply before ranking. `scale`: the embedder's.
        Memories of one of `periods` are more relevant."""
        columns = self._current_columns()
        allowed = self._allowed(columns, group, allows)
        if not allowed.any():
            return []
        raw = self._raw_scores(terms, self._index.postings(dict.fromkeys(terms)), vector, columns)
        arrays = self._arrays(columns, allowed, periods)
        ranked = rank(arrays, raw, weights, limit)
        relevance = relevance_of(ranked.rows, raw, scale, arrays.dated)
        return self._memories(ranked, lift(relevance, ranked.rows, arrays.outranks))

    def candidates(
        self,
        query: Query,
        vector: Vector | None,
        limit: int,
        weights: RankWeights,
        *,
        scale: Calibration = _NO_SCALE,
        allows: Allows | None = None,
    ) -> Candidates:
        """The memories that may be injected for a query, best first, with the signals for the decision. Without the
        user's earlier questions that repeat the query, and without answers that know nothing."""
        columns = self._current_columns()
        allowed = self._allowed(columns, "chat", allows)
        distinct = list(dict.fromkeys(query.terms))
        postings = self._index.postings(distinct)
        coverage = measure_coverage(self._index, distinct, postings, len(allowed))
        asks_for_questions = query.is_about_questions or query.is_about_answers
        allowed &= ~is_superfluous(columns, coverage, keeps_questions=asks_for_questions)
        if not allowed.any():
            return NO_CANDIDATES
        raw = self._raw_scores(query.terms, postings, vector, columns)
        arrays = self._arrays(columns, allowed, query.periods)
        evidence = measure_evidence(columns, arrays, raw, coverage, scale)
        scores = score(arrays, raw, weights)
        ranked = scores.ranked(pool(scores, arrays, evidence, limit))
        rows, requests = ranked.rows, requests_of(ranked.rows, arrays)
        is_known = is_stated(columns, allowed, coverage)
        match = measure_match(evidence, allowed, probe_request(vector, self.embedder), is_stated=is_known)
        scored = ScoredRows(ranked, probe(self._vectors.take(rows), vector, self.embedder), requests)
        return Candidates(
            ranked,
            lift(evidence.relevance[rows], rows, arrays.outranks),
            columns["tokens"][rows],
            signal_matrix(scored, arrays, evidence, query, coverage.terms),
            match,
            *linked_places(rows, requests, arrays),
        )

    def memories(self, candidates: Candidates, places: NDArray[np.intp], chances: Vector) -> list[Memory]:
        """The candidates at these places, with their probabilities (one for each candidate)."""
        ranked = candidates.ranked
        chosen = Ranked(ranked.rows[places], ranked.scores[places], ranked.parts[places])
        return self._memories(chosen, candidates.relevance[places], chances[places].tolist())

    def _current_columns(self) -> Columns:
        return {name: column[: len(self._records)] for name, column in self._columns.items()}

    def _allowed(self, columns: Columns, group: str, allows: Allows | None) -> NDArray[np.bool_]:
        """The rows of a group that a filter allows."""
        allowed: NDArray[np.bool_] = columns["alive"] & is_of(columns["group"], group)
        if allows is not None:
            rows = np.flatnonzero(allowed)
            allowed[rows] = [allows(record) for record in self._at(rows.tolist())]
        return allowed

    def _arrays(self, columns: Columns, allowed: NDArray[np.bool_], periods: Sequence[Period]) -> SetArrays:
        return SetArrays(
            price=columns["price"],
            from_user=columns["from_user"],
            is_long=columns["is_long"],
            segment=columns["segment"],
            before=columns["before"],
            after=columns["after"],
            allowed=allowed,
            doubt=columns["doubt"],
            outranks=self._constraints.outranks(self._row_of),
            conclusions=self._constraints.conclusions(self._row_of),
            dated=is_within(columns["at"], self._about, periods),
        )

    def _memories(self, ranked: Ranked, relevance: Vector, chances: Sequence[float | None] = ()) -> list[Memory]:
        rows = ranked.rows
        columns_of = (ranked.scores, relevance, self._columns["tokens"][rows], ranked.parts)
        values = zip(*(column.tolist() for column in columns_of), chances or [None] * len(rows), strict=True)
        return [
            Memory(record, score, share, tokens, "stored", tuple(parts), probability=chance)
            for record, (score, share, tokens, parts, chance) in zip(self._at(rows.tolist()), values, strict=True)
        ]

    @property
    def has_profile(self) -> bool:
        """True if `profile` is computed; else that takes some tens of milliseconds."""
        return self._profile is not None

    def beyond_cap(self) -> list[Record]:
        """Standing preferences beyond the number that can be in force."""
        return beyond_cap(self._find_standing())

    def _find_standing(self) -> list[Record]:
        columns = self._current_columns()
        return self._at(np.flatnonzero(columns["alive"] & np.isin(columns["group"], PROFILE_CODES)).tolist())

    def profile(self) -> tuple[Memory, ...]:
        """The preferences and facts that are in force, see `memory/profile.py`."""
        if self._profile is None:
            tokens = self._columns["tokens"]
            entries = in_force(self._find_standing())
            self._profile = tuple(Memory(entry, 1.0, 1.0, int(tokens[self._row_of[entry.id]])) for entry in entries)
        return self._profile

    def records(self, allows: Allows | None = None) -> list[Record]:
        """All memories that a filter allows, archived ones included, oldest first."""
        return [record for record in self._at(sorted(self._row_of.values())) if allows is None or allows(record)]

    def find(self, memory_id: str) -> Record | None:
        return self._at([self._row_of[memory_id]])[0] if memory_id in self._row_of else None

    def latest(self, session_id: str, limit: int) -> list[Record]:
        """The newest `limit` records of a conversation, oldest first."""
        session = self._sessions.get(session_id)
        index, rows = -1 if session is None else session.last, list[int]()
        while index >= 0 and len(rows) < limit:
            rows.append(index)
            index = int(self._columns["before"][index])
        return self._at(rows[::-1])

    def _at(self, rows: Sequence[int]) -> list[Record]:
        """The records of these rows."""
        records = self._records
        missing = [row for row in rows if records[row] is None]
        if missing and self._loaded is not None:
            for row, record in zip(missing, self._loaded.records(missing), strict=True):
                records[row] = record
                self._record_bytes += _RECORD_BYTES + 2 * len(record.text)
        return [entry for row in rows if (entry := records[row]) is not None]

    def _raw_scores(
        self, terms: Sequence[str], words: Sequence[Posting], vector: Vector | None, columns: Columns
    ) -> RawScores:
        """The raw scores of a query's terms and vector."""
        pairs = [self._index.rows_of_pair(first, second) for first, second in dict.fromkeys(pairwise(terms))]
        average = self._total_length / self._alive
        by_words, most = bm25(words, columns["length"], average, self._alive)
        by_pairs, _ = bm25(pairs, columns["length"], average, self._alive)
        cosine = None if vector is None else self._vectors.dot(vector, len(self._records))
        lengths = np.asarray(self._segment_lengths, np.float32)
        segments = score_segments(words, columns["segment"], lengths)
        return RawScores(words=by_words, pairs=by_pairs, segments=segments, cosine=cosine, most=most)

    def _append(self, index: int, row: Row, length: int) -> None:
        record, columns = row.record, self._columns
        self._records.append(record)
        self._row_of[record.id] = index
        self._record_bytes += _RECORD_BYTES + 2 * len(record.text)
        if kind_of(record.kind).is_of_profile:
            self._profile = None
        self._constraints.add(index, record)
        columns["alive"][index] = record.status == "activated"
        if record.status != "activated":
            return
        if row.vector is not None and row.embedder == self.embedder:
            self._vectors.put(index, row.vector[None])
        columns["doubt"][index] = bool(flags_of(record) & RowFlag.SUSPICIOUS)
        columns["tokens"][index] = row.tokens
        columns["form"][index] = row.form
        columns["worth"][index] = row.worth
        columns["at"][index] = record.event_time
        if record.about is not None:
            self._about[index] = record.about
        columns["price"][index] = math.log(max(row.tokens, 1) / _FREE_TOKENS)
        columns["length"][index] = length
        fields = [getattr(record, name) for name in PLACE_FIELDS]
        self._place(PlacedRow._make((index, *fields, self._constraints.is_extracted(index))), length)
        self._alive += 1
        self._total_length += length

    def _place(self, placed: "PlacedRow", length: int) -> None:
        """Put a row at the end of its conversation; messages and documents become neighbours."""
        columns, kind = self._columns, kind_of(placed.kind)
        session = self._sessions.setdefault(placed.session_id, SessionEnd())
        if session.segment < 0 or (session.messages >= _SEGMENT_MESSAGES and not placed.part):
            session.segment, session.messages = len(self._segment_lengths), 0
            self._segment_lengths.append(0)
        session.messages += not placed.part
        self._segment_lengths[session.segment] += length
        columns["segment"][placed.row] = session.segment
        is_preference = kind.group == "preference" and placed.is_extracted
        columns["group"][placed.row] = EXTRACTED_PREFERENCE if is_preference else GROUP_CODES[kind.group][0]
        columns["from_user"][placed.row] = placed.source == "user"
        columns["is_extracted"][placed.row] = placed.is_extracted
        if placed.source != "user" and (placed.part or columns["tokens"][placed.row] > _LONG_ANSWER):
            columns["is_long"][placed.row] = True
            if placed.part and session.message_id == placed.message_id:
                columns["is_long"][session.last] = True  # the first piece of several
        if kind.has_neighbours:
            columns["before"][placed.row] = session.last
            if session.last >= 0:
                columns["after"][session.last] = placed.row
            session.last, session.message_id = placed.row, placed.message_id

    def _reserve(self, count: int) -> None:
        self._vectors.reserve(count)
        grow_columns(self._columns, count, len(self._records))
