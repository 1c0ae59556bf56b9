"""Conversion of records to and from the rows of the journal: an id of the entry, and JSON."""

import sys
from collections.abc import Iterable

import orjson

from gateway.memory.annotations import build_record, plain_fields
from gateway.memory.record import Record
from gateway.storage.rows import SHARED

__all__ = ["build_rows", "parse_record", "record_id"]


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


def _entry_id(record: Record) -> str:
    return record.id if record.version == 1 else f"{record.id}.{record.version}.{record.updated_at}"
