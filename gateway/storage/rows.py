"""Rows loaded from the store: kept in Arrow, converted to records only on access.

A user's memories are loaded while a request waits; building thousands of records to use fifty would take most of that
time. The columns that a working set needs of every row are available as arrays and lists.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from gateway.memory.annotations import FLAGGED, RowFlag, parse_annotations, period_in, stored_flags, superseded_in
from gateway.memory.record import Record
from gateway.text.dates import Period
from gateway.text.form import UNKNOWN_FORM
from gateway.turn import Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ENUMERATED", "RECORD_FIELDS", "SHARED", "TIMES", "LoadedRows", "Row", "RowFormat"]

SHARED = ("scope", "cube_id", "user_id", "session_id", "agent_id", "app_id", "kind", "source", "status")
"""Fields whose values many records share: each value is interned, which halves a record's size in RAM."""
_IDENTITY_FIELDS = (
    "id",
    "scope",
    "cube_id",
    "user_id",
    "session_id",
    "message_id",
    "part",
    "agent_id",
    "app_id",
    "kind",
)
RECORD_FIELDS = (*_IDENTITY_FIELDS, "source", "status", "text", "confidence", "version")
TIMES = ("event_time", "created_at", "updated_at")
ENUMERATED = ("tags", "links")
OBJECTS = ("info", "metadata")  # stored as JSON
_EMPTY: Mapping[str, Any] = {}
_RECORDS_AT_ONCE = 2000  # records that are built in one step: some tens of milliseconds
_BLOCK_ROWS = 4096  # vectors that are handed over at a time


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The format of rows: the embedder of their vectors, the vectors' length, and the version of their search terms."""

    embedder: str
    dimensions: int
    terms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record with its search data. `vector` is None where no embedder answered; `seq` is its journal number; `form`
    is the packed form of its text (see `gateway.text.form`), `worth` its value as a memory."""

    record: Record
    vector: "NDArray[np.float32] | None"
    embedder: str
    terms: tuple[str, ...]
    tokens: int
    seq: int = 0
    form: int = UNKNOWN_FORM
    worth: float = 0.0


class LoadedRows:
    """The rows of one read, oldest first, each id once (its newest version), numbered from 0.

    Vectors, which are most of the bytes, stay as they were read: `_sources` are the rows' numbers in that order.
    """

    def __init__(self, tables: Sequence[Any], scope: Scope | None = None) -> None:
        filled = [table for table in tables if len(table)]
        self._table: Any = ()
        self._vectors: Any = None
        if not filled:
            return
        table = _concatenate(filled)
        index = table.schema.get_field_index("vector")
        self._vector_field, self._vectors = table.schema.field(index), table.column(index)
        self._sources = _select_newest(table.remove_column(index).combine_chunks(), scope)
        self._vector_index = index
        self._table = table.remove_column(index).take(self._sources)
        self._derive_flags()

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        return int(self._table.nbytes)

    def shed(self) -> None:
        """Drop the columns that records do not need, and store repeated values once."""
        import pyarrow as pa  # noqa: PLC0415

        columns = {name: self._table.column(name) for name in (*RECORD_FIELDS, *TIMES, *ENUMERATED, *OBJECTS)}
        columns |= {name: columns[name].dictionary_encode() for name in SHARED}
        self._table, self._vectors = pa.table(columns), None
        pa.default_memory_pool().release_unused()  # by Arrow: most of what was read

    def by_scope(self) -> Any:
        """All rows as Arrow, scope by scope, each in the order of creation."""
        self._sort_by_scope()
        return self._table.add_column(self._vector_index, self._vector_field, self._vectors.take(self._sources))

    def _sort_by_scope(self) -> None:
        import pyarrow.compute as pc  # noqa: PLC0415

        order = pc.sort_indices(self._table.column("scope"))  # stable
        self._table, self._sources = self._table.take(order), self._sources[order.to_numpy()]

    def strings(self, column: str, rows: "NDArray[np.integer] | None" = None) -> list[str]:
        """A column of these rows, or of all."""
        values = self._table.column(column)
        return (values if rows is None else values.take(rows)).to_pylist()  # type: ignore[no-any-return]  # as below

    def codes(self, column: str) -> "tuple[NDArray[np.int32], list[str]]":
        """A column of strings as numbers of its distinct values, and these."""
        encoded = self._table.column(column).combine_chunks().dictionary_encode()
        return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()

    def equal(self, column: str, value: str) -> "NDArray[np.bool_]":
        """True for the rows that have this value in a column."""
        import pyarrow.compute as pc  # noqa: PLC0415

        return pc.fill_null(pc.equal(self._table.column(column), value), False).to_numpy()  # type: ignore[no-any-return]  # as below

    def numbers(self, column: str) -> "NDArray[Any]":
        return self._table.column(column).to_numpy()  # type: ignore[no-any-return]  # pyarrow has no types

    def seconds(self, column: str) -> "NDArray[np.float64]":
        """A column of moments, in seconds since 1970."""
        return self.numbers(column).astype("datetime64[us]").astype("int64") / 1e6

    def flags(self) -> "NDArray[np.int32]":
        """The `RowFlag` values of all rows."""
        return self.numbers("flags")

    def links(self, flag: RowFlag) -> dict[int, tuple[str, ...]]:
        """The links of the rows that have a flag, by row."""
        rows, values = self._flagged("links", flag)
        return {row: tuple(ids) for row, ids in zip(rows, values, strict=True)}

    def about(self) -> "dict[int, Period]":
        """The periods that rows refer to, other than their own time, by row."""
        rows, infos = self._flagged("info", RowFlag.DATED)
        periods = {row: period_in(orjson.loads(info)) for row, info in zip(rows, infos, strict=True)}
        return {row: period for row, period in periods.items() if period is not None}

    def supersedes(self) -> dict[int, tuple[str, ...]]:
        """The ids that rows supersede, by row."""
        rows, infos = self._flagged("info", RowFlag.SUPERSEDES)
        return {row: superseded_in(orjson.loads(info)) for row, info in zip(rows, infos, strict=True)}

    def _flagged(self, column: str, flag: RowFlag) -> tuple[list[int], list[Any]]:
        import numpy as np  # noqa: PLC0415

        rows = np.flatnonzero(self.flags() & flag).tolist()
        return rows, self._table.column(column).take(rows).to_pylist() if rows else []

    def _derive_flags(self) -> None:
        """Fill in the flags of rows stored by versions that had no such column."""
        import numpy as np  # noqa: PLC0415
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.compute as pc  # noqa: PLC0415

        column = self._table.column("flags")
        if not column.null_count:
            return
        is_missing = pc.and_(column.is_null(), pc.match_substring_regex(self._table.column("info"), FLAGGED))
        flags = pc.fill_null(column, 0).to_numpy().copy()
        rows = np.flatnonzero(is_missing.to_numpy(zero_copy_only=False)).tolist()
        infos = self._table.column("info").take(rows).to_pylist() if rows else []
        by_text = {text: int(stored_flags(orjson.loads(text))) for text in set(infos)}
        flags[rows] = [by_text[text] for text in infos]
        index = self._table.schema.get_field_index("flags")
        self._table = self._table.set_column(index, self._table.schema.field("flags"), pa.array(flags, pa.int32()))

    def vectors(self, embedder: str, dimensions: int) -> "NDArray[np.float32]":
        """All vectors, shape (rows, dimensions); zeros where the vector is missing or of another embedder."""
        import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

        vectors = np.zeros((len(self), dimensions), np.float32)
        for first, block in self.vector_blocks(embedder, dimensions):
            vectors[first : first + len(block)] = block
        return vectors

    def vector_blocks(self, embedder: str, dimensions: int) -> "Iterator[tuple[int, NDArray[np.float32]]]":
        """All vectors in blocks: the first row, and an array of shape (rows, dimensions), with zeros where the vector
        is missing or of another embedder. No block if all are."""
        import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

        is_usable = self.equal("embedder", embedder)
        if not is_usable.any() or self._vectors.type.list_size != dimensions:
            return
        chunks = [chunk for chunk in self._vectors.chunks if len(chunk)]
        begins = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        flat = [chunk.values.to_numpy(zero_copy_only=False).reshape(-1, dimensions) for chunk in chunks]
        valid = [chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in chunks]
        for first in range(0, len(self), _BLOCK_ROWS):
            sources = self._sources[first : first + _BLOCK_ROWS]
            block = np.zeros((len(sources), dimensions), np.float32)
            numbers = np.searchsorted(begins, sources, side="right") - 1
            for number in np.unique(numbers).tolist():
                places = np.flatnonzero((numbers == number) & is_usable[first : first + _BLOCK_ROWS])
                inside = sources[places] - begins[number]
                places, inside = places[valid[number][inside]], inside[valid[number][inside]]
                block[places] = flat[number][inside + chunks[number].offset]
            yield first, block

    def terms(self) -> "tuple[list[str], NDArray[np.int32], NDArray[np.int32]]":
        """Search terms of all rows: distinct terms; indexes into these, row after row; the number of terms per row."""
        import numpy as np  # noqa: PLC0415
        import pyarrow.compute as pc  # noqa: PLC0415

        column = self._table.column("fts").combine_chunks()
        words = pc.split_pattern(column, " ")
        lengths = pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(np.int32)
        encoded = words.flatten().dictionary_encode()
        is_empty = column.to_numpy(zero_copy_only=False) == ""  # an empty text splits into one empty word
        vocabulary = encoded.dictionary.to_pylist()
        numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        if is_empty.any():
            numbers = numbers[~np.repeat(is_empty, lengths)]
            lengths = np.where(is_empty, 0, lengths).astype(np.int32)
        return vocabulary, numbers, lengths

    def records(self, rows: Sequence[int] | None = None) -> list[Record]:
        """The records of these rows, or of all, built block by block: within one, no other thread runs Python code."""
        if not len(self) or (rows is not None and not len(rows)):
            return []
        table = self._table if rows is None else self._table.take(list(rows))
        blocks = (table.slice(first, _RECORDS_AT_ONCE) for first in range(0, len(table), _RECORDS_AT_ONCE))
        return [record for block in blocks for record in _build_records(block)]

    def rows(self, numbers: "NDArray[np.integer] | None" = None) -> list[Row]:
        """The rows of these numbers, or all scope by scope, with their search data; built as `records` are."""
        if not len(self):
            return []
        if numbers is None:
            self._sort_by_scope()
        table = self._table if numbers is None else self._table.take(numbers)
        sources = self._sources if numbers is None else self._sources[numbers]
        rows: list[Row] = []
        for first in range(0, len(table), _RECORDS_AT_ONCE):
            vectors = self._vectors.take(sources[first : first + _RECORDS_AT_ONCE])
            rows += _build_rows(table.slice(first, _RECORDS_AT_ONCE), vectors)
        return rows


def _build_records(table: Any) -> list[Record]:
    columns: dict[str, Iterable[Any]] = {name: table.column(name).to_pylist() for name in RECORD_FIELDS}
    columns |= {name: map(sys.intern, columns[name]) for name in SHARED}
    for name in TIMES:
        columns[name] = (table.column(name).cast("int64").to_numpy() / 1e6).tolist()
    columns["confidence"] = [round(value, 6) for value in columns["confidence"]]  # stored as float32: restores 0.9
    for name in ENUMERATED:
        columns[name] = map(tuple, table.column(name).to_pylist())
    # many rows have the same annotations, such as a time zone alone
    infos = {text: parse_annotations(orjson.loads(text)) for text in set(table.column("info").to_pylist())}
    info_column, metadata_column = (table.column(name).to_pylist() for name in OBJECTS)
    names = tuple(columns)
    records = []
    for values, info, own in zip(zip(*columns.values(), strict=True), info_column, metadata_column, strict=True):
        annotated, client_fields = infos[info]
        metadata = _EMPTY if own == "{}" else orjson.loads(own)
        if client_fields:
            metadata = {**client_fields, **metadata}
        records.append(Record(**dict(zip(names, values, strict=True)), **annotated, metadata=metadata))
    return records


def _build_rows(table: Any, vectors: Any) -> list[Row]:
    extra = zip(
        *(table.column(name).to_pylist() for name in ("embedder", "fts", "tokens", "seq", "form", "worth")),
        strict=True,
    )
    return [
        Row(
            record=record,
            vector=_to_array(vector) if embedder else None,
            embedder=embedder,
            terms=tuple(words.split()),
            tokens=size,
            seq=seq,
            form=form,
            worth=worth,
        )
        for record, vector, (embedder, words, size, seq, form, worth) in zip(
            _build_records(table), vectors.to_pylist(), extra, strict=True
        )
    ]


def _to_array(vector: Sequence[float] | None) -> "NDArray[np.float32] | None":
    import numpy as np  # noqa: PLC0415

    return None if vector is None else np.asarray(vector, np.float32)


def _concatenate(tables: Sequence[Any]) -> Any:
    """Concatenate tables; vectors whose length differs from the first table's are set to null."""
    import pyarrow as pa  # noqa: PLC0415

    first, *others = tables
    fitting = [first]
    for table in others:
        if table.schema.field("vector").type != first.schema.field("vector").type:
            column = table.schema.get_field_index("vector")
            nulls = pa.nulls(len(table), first.schema.field("vector").type)
            table = table.set_column(column, first.schema.field("vector"), nulls)  # noqa: PLW2901 — the same rows
        fitting.append(table.select(first.schema.names))
    return pa.concat_tables(fitting) if others else first


def _select_newest(arrow: Any, scope: Scope | None) -> "NDArray[np.int64]":
    """The numbers of the rows, oldest first, of the newest version of each id. Deleted records are left out; so is a
    row of another scope, which would be a bug of the store."""
    import numpy as np  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    # a changed row has a new sequence number, but keeps its position in its conversation
    created, seqs = (arrow.column(name).cast("int64").to_numpy() for name in ("created_at", "seq"))
    versions = arrow.column("version").to_numpy()
    order = np.lexsort((seqs, versions, created))  # all versions of a row share a creation time
    is_kept = pc.not_equal(arrow.column("status"), "deleted").to_numpy()
    if scope is not None:
        is_own = pc.equal(arrow.column("scope"), scope.value).to_numpy()
        order, is_kept = order[is_own[order]], is_kept & is_own
    ids = arrow.column("id").combine_chunks().dictionary_encode()
    numbers = ids.indices.to_numpy(zero_copy_only=False)[order]
    newest = np.zeros(len(ids.dictionary), np.int64)
    newest[numbers] = np.arange(len(order))  # the last of each counts
    is_kept = is_kept[order] & (newest[numbers] == np.arange(len(order)))
    return np.asarray(order[is_kept], np.int64)
