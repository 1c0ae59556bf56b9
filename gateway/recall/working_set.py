"""A working set: the memories of one scope in RAM, laid out for ranking.

Vectors are in one matrix, words in an inverted index, the values for filters and ranking in columns. Rows are appended
and marked as removed, never moved. A conversation is divided into segments of a few messages. Archived
memories are listed, but never ranked. One thread at a time (see `WorkingSets`); uses neither clock nor store.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.calibration import Calibration
from gateway.memory.annotations import RowFlag, flags_of
from gateway.memory.kinds import kind_of
from gateway.memory.profile import beyond_cap, in_force
from gateway.memory.recalled import Memory
from gateway.memory.record import Record
from gateway.recall.candidates import pool
from gateway.recall.columns import PROFILE_CODES, Columns, grow_columns, is_of, make_columns
from gateway.recall.dated import is_within
from gateway.recall.places import PLACE_FIELDS, ConversationPlaces, PlacedRow
from gateway.recall.precedence import OrderingConstraints
from gateway.recall.probes import UNPROBED, has_probes, probe, probe_request
from gateway.recall.query import Query
from gateway.recall.rank import Ranked, RankWeights, SetArrays, rank, score
from gateway.recall.relevance import (
    is_empty_talk,
    is_stated,
    lift,
    measure_evidence,
    relevance_of,
    rows_that_repeat,
)
from gateway.recall.shortlist import Field, make_field
from gateway.recall.signals import (
    NO_CANDIDATES,
    Candidates,
    Match,
    ScoredRows,
    linked_places,
    measure_match,
    pairs_of_places,
    requests_of,
    signal_matrix,
)
from gateway.recall.term_index import TermIndex
from gateway.recall.vectors import RowVectors
from gateway.recall.words import QueryMatches, SetTotals, WordMatches, match_words
from gateway.storage.rows import LoadedRows, Row
from gateway.text.dates import Period

__all__ = ["WorkingSet"]

Allows = Callable[[Record], bool]
Vector = NDArray[np.float32]

_ROW_BYTES = 250  # of one row beside vector, text and record: its id, its place, columns
_RECORD_BYTES = 600  # of a record beside its text
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
        self._places = ConversationPlaces()
        self._vectors = RowVectors(dimensions)
        self._columns = make_columns()
        self._constraints = OrderingConstraints()
        self._about: dict[int, Period] = {}  # rows about another time than their own
        self._profile: tuple[Memory, ...] | None = None  # None: not computed yet
        self._alive = 0
        self._total_length = 0.0
        self._revision = 0  # changes with the rows

    def __len__(self) -> int:
        return self._alive

    @property
    def nbytes(self) -> int:
        records = len(self._records) * _ROW_BYTES + self._record_bytes + self._loaded_bytes
        return self._vectors.nbytes + self._index.nbytes + self._places.nbytes + records

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
        self._mark_empty_talk(first)

    def fill(self, loaded: LoadedRows) -> None:
        """Add all rows of loaded tables; the set must be empty. Records are built on first use."""
        count = len(loaded)
        if not count:
            return
        self._reserve(count)
        self._loaded = loaded
        self._records = [None] * count
        columns = self._columns
        self._row_of = {id_: row for row, id_ in enumerate(loaded.strings("id"))}
        is_active = loaded.equal("status", "activated")
        words, numbers, lengths = loaded.terms()
        if not is_active.all():
            numbers, lengths = numbers[np.repeat(is_active, lengths)], np.where(is_active, lengths, 0)
        self._index.add_numbered(0, words, numbers, lengths.astype(np.int32))
        for first, vectors in loaded.vector_blocks(self.embedder, self._vectors.dimensions):
            self._vectors.put(first, vectors)
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
        columns["is_extracted"][self._constraints.extracted_rows()] = True
        self._places.fill(columns, loaded, np.flatnonzero(is_active), lengths)
        self._mark_empty_talk(0)
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
        self._revision += 1
        self._constraints.remove(index)
        if columns["group"][index] in PROFILE_CODES:
            self._profile = None
        if not columns["alive"][index]:
            return
        columns["alive"][index] = False
        self._alive -= 1
        self._total_length -= float(columns["length"][index])
        self._places.remove(columns, index, self._at([index])[0].session_id)

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
        arrays = self._arrays(columns, allowed, periods)
        field = self._field(columns, arrays, self._match(terms, columns), vector, weights)
        ranked = rank(field.arrays, field.outline, field.neighbours, weights, limit)
        relevance = relevance_of(ranked.rows, field.raw, scale, field.arrays.dated)
        lifted = lift(relevance, pairs_of_places(field.arrays.outranks, ranked.rows))
        return self._memories(replace(ranked, rows=field.in_set(ranked.rows)), lifted)

    def match(self, query: Query) -> QueryMatches:
        """The matches of a query's words, for `candidates`."""
        columns = self._current_columns()
        words = self._match(query.terms, columns)
        allowed = self._allowed(columns, "chat", None)
        allowed &= ~columns["is_empty_talk"]
        if not (query.is_about_questions or query.is_about_answers):
            allowed[rows_that_repeat(columns, words.coverage)] = False
        return QueryMatches(words, allowed, is_stated(columns, allowed, words.coverage))

    def wordless_match(self, query: Query, matches: QueryMatches) -> Match:
        """How a query without a vector matches the set."""
        columns = self._current_columns()
        if matches.words.revision != self._revision:
            matches = self.match(query)
        arrays = self._arrays(columns, matches.allowed, query.periods)
        evidence = measure_evidence(columns, arrays, matches.words.raw, matches.words.coverage, _NO_SCALE)
        return measure_match(evidence, matches.allowed, None, is_stated=matches.is_stated)

    def candidates(
        self,
        query: Query,
        vector: Vector | None,
        limit: int,
        weights: RankWeights,
        *,
        scale: Calibration = _NO_SCALE,
        allows: Allows | None = None,
        matches: QueryMatches | None = None,
    ) -> Candidates:
        """The memories that may be injected for a query, best first, with the signals for the decision. Without the
        user's earlier questions that repeat the query, and without answers that know nothing. `matches`: the result of
        `match`, if there is one."""
        columns = self._current_columns()
        if matches is None or matches.words.revision != self._revision:
            matches = self.match(query)
        allowed, coverage = matches.allowed, matches.words.coverage
        if allows is not None:
            allowed = allowed & self._allowed(columns, "chat", allows)
        if not allowed.any():
            return NO_CANDIDATES
        is_known = matches.is_stated if allows is None else is_stated(columns, allowed, coverage)
        field = self._field(columns, self._arrays(columns, allowed, query.periods), matches.words, vector, weights)
        arrays = field.arrays
        evidence = measure_evidence(field.columns, arrays, field.raw, field.coverage, scale)
        scores = score(arrays, field.outline, field.neighbours, weights)
        ranked = scores.ranked(pool(scores, arrays, evidence, limit))
        rows, requests = ranked.rows, requests_of(ranked.rows, arrays)
        match = measure_match(evidence, arrays.allowed, probe_request(vector, self.embedder), is_stated=is_known)
        numbers = field.in_set(rows)
        scored = ScoredRows(ranked, self._probe(numbers, vector), requests)
        linked = linked_places(rows, requests, arrays)
        return Candidates(
            Ranked(numbers, ranked.scores, ranked.parts),
            lift(evidence.relevance[rows], linked[0]),
            field.columns["tokens"][rows],
            signal_matrix(scored, arrays, evidence, query, coverage.terms),
            match,
            *linked,
        )

    def _field(
        self,
        columns: Columns,
        arrays: SetArrays,
        matches: WordMatches,
        vector: Vector | None,
        weights: RankWeights,
    ) -> Field:
        cosine = None if vector is None else self._vectors.dot(vector, len(self._records))
        return make_field(columns, arrays, replace(matches.raw, cosine=cosine), matches.coverage, weights)

    def _probe(self, rows: NDArray[np.int32], vector: Vector | None) -> Vector:
        """See `probe`; vectors are read only where there are probes."""
        if vector is None or not has_probes(self.embedder):
            return np.full((len(rows), 2), UNPROBED, np.float32)
        return probe(self._vectors.take(rows), vector, self.embedder)

    def _match(self, terms: Sequence[str], columns: Columns) -> WordMatches:
        average = self._total_length / max(1, self._alive)
        totals = SetTotals(self._alive, average, self._places.segment_lengths)
        return match_words(self._index, terms, columns, totals, self._revision)

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

    def ids(self) -> list[str]:
        """The ids of all memories, archived ones included, oldest first."""
        return list(self._row_of)  # in the order of the rows

    def records(self, memory_ids: Iterable[str] | None = None) -> list[Record]:
        """Those of the memories that are in the set, or all of it, oldest first."""
        ids = self._row_of if memory_ids is None else memory_ids
        return self._at([self._row_of[id_] for id_ in ids if id_ in self._row_of])

    def latest(self, session_id: str, limit: int) -> list[Record]:
        """The newest `limit` records of a conversation, oldest first."""
        index, rows = self._places.last(session_id), list[int]()
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
        placed = PlacedRow._make((index, *fields, self._constraints.is_extracted(index)))
        self._places.put(columns, placed, length)
        self._alive += 1
        self._total_length += length

    def _mark_empty_talk(self, first: int) -> None:
        columns = {name: column[first:] for name, column in self._current_columns().items()}
        columns["is_empty_talk"][:] = is_empty_talk(columns["tokens"], columns["from_user"], columns["form"])
        self._revision += 1

    def _reserve(self, count: int) -> None:
        self._vectors.reserve(count)
        grow_columns(self._columns, count, len(self._records))
