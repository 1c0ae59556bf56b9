"""Entries of the shared log as rows: a record as JSON, with its bucket, and its vector as 16-bit numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.memory.record import Record
from gateway.storage.sqlite.journal_rows import build_rows, parse_record
from gateway.storage.values import Claim, GivenVector, JournalEntry

__all__ = ["NewEntries", "append_values", "collect_entries", "parse_entry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntries:
    """What one append adds: records with the ids and the JSON of their entries. `replaced`: ids of records whose
    earlier entries lose their texts."""

    ids: Sequence[str]
    payloads: Sequence[bytes]
    records: Sequence[Record]
    vectors: Mapping[str, GivenVector]
    claims: Mapping[str, Claim]
    replaced: Sequence[str] = ()

    @property
    def size(self) -> int:
        return sum(map(len, self.payloads))


def collect_entries(
    records: Sequence[Record], suffix: str, vectors: Mapping[str, GivenVector], claims: Mapping[str, Claim]
) -> NewEntries:
    """The entries of records. With a suffix to their ids, each is an entry of its own."""
    rows = build_rows(records, suffix)
    return NewEntries(
        ids=[id_ for id_, _ in rows],
        payloads=[payload for _, payload in rows],
        records=records,
        vectors=vectors,
        claims=claims,
        replaced=[record.id for record in records] if suffix else (),
    )


def append_values(appends: Iterable[NewEntries], bucket_of: Callable[[str], int]) -> list[list[Any]]:
    """The arguments of the function `append_entries` for several appends."""
    columns: list[list[Any]] = [[] for _ in range(15)]
    for append in appends:
        for id_, payload, record in zip(append.ids, append.payloads, append.records, strict=True):
            vector = append.vectors.get(record.id)
            given = (None, None) if vector is None else (vector.embedder, _pack(vector))
            is_tombstone = record.status == "deleted"
            row = (id_, record.id, bucket_of(record.scope), record.scope, payload, is_tombstone, *given)
            for column, value in zip(columns[:8], row, strict=True):
                column.append(value)
        columns[8].extend(append.replaced)
        for id_, claim in append.claims.items():
            # the driver refuses a list of integers and floats
            claimed = (claim.fingerprint, id_, claim.turn, claim.scope, float(claim.at), float(claim.seconds))
            for column, value in zip(columns[9:], claimed, strict=True):
                column.append(value)
    return columns


def parse_entry(row: Sequence[Any], since: int) -> JournalEntry:
    """The entry of a row (seq, id, payload, tries, embedder, vector). Others may have stored those up to `since`."""
    seq, id_, payload, tries, embedder, vector = row
    is_replay = seq <= since or tries > 0 or "." in id_
    given = None if vector is None or embedder is None else GivenVector(embedder, _unpack(vector))
    return JournalEntry(seq, parse_record(payload), len(payload), is_replay, given)


def _pack(given: GivenVector) -> bytes:
    return given.vector.astype("<f2").tobytes()


def _unpack(packed: bytes) -> Any:
    import numpy as np  # noqa: PLC0415 — heavy, and not needed where no record comes with a vector

    return np.frombuffer(packed, "<f2").astype(np.float32)
