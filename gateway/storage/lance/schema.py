"""The Arrow schema of a table of memories, and conversion of rows to it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.memory.annotations import annotations, flags_of
from gateway.storage.rows import ENUMERATED, RECORD_FIELDS, TIMES, Row

__all__ = ["to_arrow"]


def _schema(dimensions: int) -> Any:
    import pyarrow as pa  # noqa: PLC0415 — heavy: loaded behind the open port

    moment = pa.timestamp("us", tz="UTC")
    required = {"id": pa.utf8(), "scope": pa.utf8(), "seq": pa.int64()}
    fields = {
        "cube_id": pa.utf8(),
        "user_id": pa.utf8(),
        "session_id": pa.utf8(),
        "message_id": pa.utf8(),
        "part": pa.int32(),
        "agent_id": pa.utf8(),
        "app_id": pa.utf8(),
        "kind": pa.utf8(),
        "source": pa.utf8(),
        "status": pa.utf8(),
        "text": pa.utf8(),
        "fts": pa.utf8(),
        "tokens": pa.int32(),
        "form": pa.int64(),
        "worth": pa.float32(),
        "tags": pa.list_(pa.utf8()),
        "links": pa.list_(pa.utf8()),
        "version": pa.int32(),
        "info": pa.utf8(),
        "flags": pa.int32(),
        "metadata": pa.utf8(),
        "confidence": pa.float32(),
        "event_time": moment,
        "created_at": moment,
        "updated_at": moment,
        "embedder": pa.utf8(),
        "vector": pa.list_(pa.float32(), dimensions),
    }
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in required.items()]
        + [pa.field(name, kind) for name, kind in fields.items()]
    )


def to_arrow(rows: Sequence[Row], dimensions: int) -> Any:
    """Convert rows to an Arrow table; a vector of another length than `dimensions` is left out."""
    import pyarrow as pa  # noqa: PLC0415

    columns: dict[str, list[Any]] = {name: [getattr(row.record, name) for row in rows] for name in RECORD_FIELDS}
    for name in TIMES:
        columns[name] = [datetime.fromtimestamp(getattr(row.record, name), UTC) for row in rows]
    for name in ENUMERATED:
        columns[name] = [list(getattr(row.record, name)) for row in rows]
    columns["info"] = [orjson.dumps(annotations(row.record)).decode() for row in rows]
    columns["flags"] = [int(flags_of(row.record)) for row in rows]
    columns["metadata"] = [orjson.dumps(dict(row.record.metadata)).decode() for row in rows]
    columns["fts"] = [" ".join(row.terms) for row in rows]
    columns["tokens"] = [row.tokens for row in rows]
    columns["form"] = [row.form for row in rows]
    columns["worth"] = [row.worth for row in rows]
    columns["seq"] = [row.seq for row in rows]
    fits = [row.vector is not None and len(row.vector) == dimensions for row in rows]
    zeros = [0.0] * dimensions  # LanceDB's upsert accepts no missing vectors; such a row has no embedder
    columns["embedder"] = [row.embedder if is_fit else "" for row, is_fit in zip(rows, fits, strict=True)]
    columns["vector"] = [row.vector if is_fit else zeros for row, is_fit in zip(rows, fits, strict=True)]
    schema = _schema(dimensions)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
