"""The rows of the journal's file: an id of the entry, and the record as JSON."""

import sqlite3
import sys
from collections.abc import Container, Iterable
from enum import IntEnum

import orjson

from gateway.memory.annotations import build_record, plain_fields
from gateway.memory.record import Record
from gateway.storage.rows import SHARED

__all__ = [
    "State",
    "build_rows",
    "count_entries",
    "drop_texts",
    "parse_record",
    "read_next_due",
    "read_position",
    "record_id",
    "sweep",
]

_ID_RETENTION = 86_400.0  # seconds that the id of a finished entry stays
_TEXT_RETENTION = 900.0  # seconds that the text of a finished entry stays at least
_MIN_RETAINED_TEXTS = 1_000  # newest entries whose text stays, however old they are


class State(IntEnum):
    """States of an entry. One that is aside is a dead letter."""

    WAITING = 0
    DONE = 1
    ASIDE = 2


def build_rows(records: Iterable[Record], suffix: str) -> list[tuple[str, bytes]]:
    """Id and JSON of each record's entry. A change of a record has an id of its own; so has each with a suffix."""
    return [(_entry_id(record) + suffix, orjson.dumps(plain_fields(record), default=dict)) for record in records]


def record_id(entry_id: str) -> str:
    """The id of an entry's record."""
    return entry_id.partition(".")[0]


def parse_record(payload: bytes) -> Record:
    """The record of an entry's JSON."""
    fields = orjson.loads(payload)
    fields["tags"] = tuple(fields["tags"])
    fields["links"] = tuple(fields["links"])
    for name in SHARED:
        fields[name] = sys.intern(fields[name])
    info, metadata = fields.pop("info", {}), fields.pop("metadata", {})
    return build_record(fields, info, metadata)


def drop_texts(connection: sqlite3.Connection, newest: Iterable[tuple[str, int]]) -> None:
    """Drop the retained texts of superseded versions. `newest`: ids with the sequence number of the newest version."""
    connection.executemany(
        # the plus signs leave the index of ids to be used: by state, each id would cost a pass over all done entries
        "UPDATE entries SET payload=NULL WHERE +state=1 AND (id=? OR (id>? AND id<?)) AND +seq<?",
        [(id_, f"{id_}.", f"{id_}/", seq) for id_, seq in newest],  # "/" follows "."
    )


def sweep(connection: sqlite3.Connection, now: float) -> None:
    """Drop old texts and ids of finished entries."""
    last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
    connection.execute(
        "UPDATE entries SET payload=NULL WHERE state=1 AND payload IS NOT NULL AND seq<=? AND at<?",
        (last - _MIN_RETAINED_TEXTS, now - _TEXT_RETENTION),
    )
    connection.execute(
        "DELETE FROM entries WHERE state=1 AND payload IS NULL AND at<?",
        (now - _ID_RETENTION,),
    )


def count_entries(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Count the waiting entries, their bytes, and the dead letters."""
    rows = connection.execute(
        "SELECT state, count(*), coalesce(sum(length(payload)), 0) FROM entries WHERE state!=? GROUP BY state",
        (State.DONE,),
    )
    counts = {state: (entries, size) for state, entries, size in rows}
    waiting, size = counts.get(State.WAITING, (0, 0))
    return waiting, size, counts.get(State.ASIDE, (0, 0))[0]


def read_position(connection: sqlite3.Connection, searchable: Container[int]) -> tuple[int, int]:
    """The newest sequence number, and the oldest one that cannot be found (newest + 1 if all can)."""
    last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
    waiting = connection.execute("SELECT seq FROM entries WHERE state=? ORDER BY seq", (State.WAITING,))
    first = next((seq for (seq,) in waiting if seq not in searchable), last + 1)
    return last, first


def read_next_due(connection: sqlite3.Connection, excluded: Container[int]) -> float | None:
    """When the next failed entry is due, in seconds since 1970; None if there is none."""
    failed = connection.execute("SELECT seq, due FROM entries WHERE state=? AND tries>0", (State.WAITING,))
    return min((due for seq, due in failed if seq not in excluded), default=None)


def _entry_id(record: Record) -> str:
    return record.id if record.version == 1 else f"{record.id}.{record.version}.{record.updated_at}"
