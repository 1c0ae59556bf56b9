"""The rows of the journal's file: an id of the entry, and the record as JSON."""

import sqlite3
import sys
import time
from collections.abc import Collection, Container, Iterable
from enum import IntEnum

import orjson

from gateway.memory.annotations import build_record, plain_fields
from gateway.memory.record import Record
from gateway.storage.rows import SHARED
from gateway.storage.values import Claim, JournalEntry

__all__ = [
    "State",
    "build_rows",
    "count_entries",
    "drop_texts",
    "grant_claim",
    "parse_record",
    "read_due",
    "read_next_due",
    "read_position",
    "read_retained",
    "read_retained_ids",
    "read_tombstones",
    "read_unstored",
    "read_waiting_after",
    "record_id",
    "sweep",
]

_GRANT = """
INSERT INTO claims (fingerprint, turn, at, scope) VALUES (?, ?, ?, ?)
ON CONFLICT (fingerprint) DO UPDATE SET turn=excluded.turn, at=excluded.at
WHERE claims.turn=excluded.turn OR abs(claims.at-excluded.at)>=?
"""
_TOMBSTONE_MARK = b'"status":"deleted"'  # in a tombstone's JSON
_MAX_RECOVERED = 20_000  # entries to read back when the store may have lost some
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
    connection.execute("DELETE FROM claims WHERE at<?", (now - _ID_RETENTION,))


def grant_claim(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Record a claim. False if an earlier one excludes it."""
    values = (claim.fingerprint, claim.turn, claim.at, claim.scope, claim.seconds)
    return connection.execute(_GRANT, values).rowcount > 0


def read_waiting_after(connection: sqlite3.Connection, seq: int) -> list[JournalEntry]:
    """The waiting entries after a sequence number."""
    rows = connection.execute(
        "SELECT seq, id, payload FROM entries WHERE seq>? AND state=? ORDER BY seq", (seq, State.WAITING)
    )
    return [JournalEntry(seq, parse_record(payload), len(payload), "." in id_) for seq, id_, payload in rows]


def read_due(
    connection: sqlite3.Connection, limit: int, excluded: Container[int], longest_pause: float
) -> tuple[list[tuple[int, str, bytes, int]], bool]:
    """The oldest waiting entries that are due now (number, id, payload, tries), and True if others wait. A time that is
    more than `longest_pause` ahead is from before the clock was set back."""
    waiting = connection.execute("SELECT seq, due FROM entries WHERE state=? ORDER BY seq", (State.WAITING,))
    now, seqs, has_others = time.time(), list[int](), False
    for seq, due in waiting:
        if seq in excluded:
            continue
        if now < due <= now + longest_pause or len(seqs) == limit:
            has_others = True
            if len(seqs) == limit:
                break
        else:
            seqs.append(seq)
    places = ",".join("?" * len(seqs))  # only question marks go into the statement
    rows = connection.execute(
        f"SELECT seq, id, payload, tries FROM entries WHERE seq IN ({places}) ORDER BY seq",  # noqa: S608
        seqs,
    )
    return rows.fetchall(), has_others


def read_unstored(connection: sqlite3.Connection, before: int, stored: Container[int]) -> list[JournalEntry]:
    """The entries up to a sequence number that are neither done nor `stored`."""
    rows = connection.execute("SELECT seq, payload FROM entries WHERE state!=1 AND seq<=? ORDER BY seq", (before,))
    pairs = [(seq, payload) for seq, payload in rows if seq not in stored]
    return [JournalEntry(seq, parse_record(payload), len(payload), True) for seq, payload in pairs]


def read_tombstones(connection: sqlite3.Connection) -> list[Record]:
    """The waiting tombstones."""
    # a tombstone's JSON names its status; texts that merely contain that phrase are filtered out below
    rows = connection.execute(
        "SELECT payload FROM entries WHERE state=? AND instr(payload, ?) > 0", (State.WAITING, _TOMBSTONE_MARK)
    )
    records = [parse_record(payload) for (payload,) in rows]
    return [record for record in records if record.status == "deleted"]


def read_retained(connection: sqlite3.Connection, seqs: Collection[int] | None) -> list[JournalEntry]:
    """The newest done entries that still have their text, or some of them."""
    rows = connection.execute(
        "SELECT seq, payload FROM entries WHERE state=1 AND payload IS NOT NULL ORDER BY seq DESC LIMIT ?",
        (_MAX_RECOVERED,),
    )
    chosen = [(seq, payload) for seq, payload in rows if seqs is None or seq in seqs]
    return [JournalEntry(seq, parse_record(payload), len(payload), True) for seq, payload in chosen[::-1]]


def read_retained_ids(connection: sqlite3.Connection) -> dict[int, str]:
    """The ids of the records of these entries by sequence number."""
    rows = connection.execute(
        "SELECT seq, id FROM entries WHERE state=1 AND payload IS NOT NULL ORDER BY seq DESC LIMIT ?",
        (_MAX_RECOVERED,),
    )
    return {seq: record_id(id_) for seq, id_ in rows}


def count_entries(connection: sqlite3.Connection, last: int) -> tuple[int, int, int]:
    """Count the waiting entries up to a sequence number, their bytes, and the dead letters."""
    rows = connection.execute(
        "SELECT state, count(*), coalesce(sum(length(payload)), 0) FROM entries WHERE state!=? AND seq<=? "
        "GROUP BY state",
        (State.DONE, last),
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
