"""The log of records that all gateways of a cluster share, in PostgreSQL.

Every gateway appends. Entries are numbered in the order of their commits, so that gateways can follow them by number.
Each belongs to a bucket; the owner of the bucket stores it, and marks it with the epoch of its lease: a gateway that
lost a lease marks nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.memory.record import Record
from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements
from gateway.storage.postgres.entries import NewEntries, append_values, parse_entry
from gateway.storage.sqlite.journal_rows import parse_record, record_id
from gateway.storage.values import BucketBacklog, Held, JournalEntry, ScopeSize

__all__ = ["SharedLog", "Tail"]

_T = TypeVar("_T")
_MAX_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.5  # seconds until the second try; each later pause is twice as long
_MAX_RECOVERED: Final = 20_000  # entries to read back when the store may have lost some
_TEXT_RETENTION: Final = 900.0  # seconds that the text of a finished entry stays at least
_MIN_RETAINED_TEXTS: Final = 1_000  # newest entries whose text stays, however old they are
_MAX_SWEPT: Final = 20_000  # rows of one sweep
_APPEND: Final = """
SELECT * FROM append_entries(?::text[], ?::text[], ?::int[], ?::text[], ?::bytea[], ?::bool[], ?::text[], ?::bytea[],
    ?::text[], ?::bytea[], ?::text[], ?::text[], ?::text[], ?::float8[], ?::float8[])
"""
_CHECK: Final = "SELECT check_leases(?::int[], ?::bigint[])"
_CHECK_ENTRIES: Final = "SELECT check_entries(?::int[], ?::bigint[], ?::bigint[])"
_MARK_STORED: Final = "SELECT mark_stored(?::int[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[])"
_MARK_FAILED: Final = "SELECT mark_failed(?::int[], ?::bigint[], ?::bigint[], ?, ?)"
_DUE: Final = """
SELECT e.seq, e.id, e.payload, e.tries, e.embedder, e.vector, l.since, e.bucket
FROM entries e JOIN leases l ON l.bucket=e.bucket WHERE e.seq = ANY (ARRAY(
    SELECT d.seq FROM entries d WHERE d.state=0 AND d.bucket = ANY (?::int[]) AND d.due<=now_seconds()
        AND NOT EXISTS (SELECT 1 FROM unnest(?::bigint[]) AS x (seq) WHERE x.seq=d.seq) ORDER BY d.seq LIMIT ?
)) ORDER BY e.seq
"""
_BACKLOGS: Final = """
SELECT e.bucket, count(*), min(e.seq), bool_or(e.seq<=l.since) FROM entries e JOIN leases l ON l.bucket=e.bucket
WHERE e.state=0 AND e.bucket = ANY (?::int[]) AND e.due<=now_seconds() GROUP BY e.bucket
"""
_LAST: Final = "SELECT coalesce(max(seq), 0) FROM entries"
_TAIL: Final = """
SELECT seq, id, payload, tries, embedder, vector FROM entries WHERE scope=? AND state<>1 ORDER BY seq
"""
_UNSTORED: Final = """
SELECT seq, id, payload, tries, embedder, vector FROM entries WHERE state<>1 AND seq<=? ORDER BY seq
"""
_UNSTORED_RECORDS: Final = """
SELECT payload FROM entries WHERE state<>1 AND split_part(id, '.', 1) = ANY (?::text[]) ORDER BY seq
"""
_UNSTORED_SIZES: Final = """
SELECT scope, count(*) FILTER (WHERE position('.' IN id)=0 AND NOT is_tombstone), max(at) FROM entries
WHERE state<>1 AND scope = ANY (?::text[]) GROUP BY scope
"""
_RETAINED: Final = """
SELECT seq, id, payload, tries, embedder, vector FROM entries WHERE state=1 AND payload IS NOT NULL
ORDER BY seq DESC LIMIT ?
"""
_DROP_OLD_TEXTS: Final = """
UPDATE entries SET payload=NULL, vector=NULL WHERE seq IN (
    SELECT seq FROM entries WHERE state=1 AND payload IS NOT NULL AND seq<=? AND at<? ORDER BY seq LIMIT ?
    FOR UPDATE SKIP LOCKED
)
"""
_DROP_OLD_IDS: Final = """
DELETE FROM entries WHERE seq IN (
    SELECT seq FROM entries WHERE state=1 AND payload IS NULL AND at<? ORDER BY at LIMIT ? FOR UPDATE SKIP LOCKED
) RETURNING seq
"""
_REQUEST_FLUSH: Final = """
INSERT INTO meta VALUES ('flush', ?) ON CONFLICT (name) DO UPDATE SET value=greatest(meta.value, excluded.value)
"""
_NOTE_SWEPT: Final = """
INSERT INTO meta VALUES ('swept', ?) ON CONFLICT (name) DO UPDATE SET value=greatest(meta.value, excluded.value)
"""


@dataclass(frozen=True, slots=True)
class Tail:
    """The entries of a scope that no table has yet, and the tables that have the others, at one moment: all entries up
    to the number `seq` are in one of both. `tables`: the bucket's row of the catalog."""

    seq: int
    entries: Sequence[JournalEntry]
    tables: bytes | None


class SharedLog:
    """The table of journal entries that all gateways of a cluster share. `bucket_of`: the bucket of a scope.
    `id_retention`: seconds that the id of a stored entry is known, so that a repeated append adds nothing. Every method
    raises StorageError."""

    def __init__(self, url: str, bucket_of: Callable[[str], int], *, id_retention: float = 86_400.0) -> None:
        self._database = PostgresDatabase(url, "journal")
        self._bucket_of = bucket_of
        self._id_retention = id_retention

    @property
    def is_open(self) -> bool:
        return self._database.is_open

    async def open(self) -> bool:
        return await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def append(self, appends: Sequence[NewEntries]) -> tuple[dict[str, int], int]:
        """Write entries durably, all or none, but those with known ids or refused claims. Returns the numbers of the
        new ones by id, and the newest number of all. May be repeated."""
        *added, (_, newest) = await self._database.read(_APPEND, append_values(appends, self._bucket_of))
        return dict(added), newest

    async def drop_claims(self, scopes: Iterable[str]) -> None:
        await self._database.write("DELETE FROM claims WHERE scope=?", [(scope,) for scope in scopes])

    async def last_seq(self) -> int:
        return int((await self._database.read(_LAST))[0][0])

    async def tail(self, scope: str) -> Tail:
        """What no table has of a scope, together with the tables of its bucket."""

        bucket = self._bucket_of(scope)

        def work(statements: PostgresStatements) -> Tail:
            statements.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            newest: int = statements.execute(_LAST)[0][0]
            rows = statements.execute(_TAIL, (scope,))
            tables = statements.execute("SELECT tables FROM catalog WHERE bucket=?", (bucket,))
            entries = [parse_entry(row, newest) for row in rows]
            return Tail(newest, entries, tables[0][0] if tables else None)

        return await self._transact(work)

    async def unstored_records(self, memory_ids: Sequence[str]) -> list[Record]:
        """The records of these ids that no table has yet, all versions of each, in order."""
        if not memory_ids:
            return []
        rows = await self._database.read(_UNSTORED_RECORDS, (list(memory_ids),))
        return [parse_record(payload) for (payload,) in rows]

    async def request_flush(self, seq: int) -> None:
        """Ask all replicas to store entries up to a number soon."""
        await self._database.write(_REQUEST_FLUSH, [(seq,)])

    async def flush_requested(self) -> int:
        """The number up to which entries are to be stored soon."""
        rows = await self._database.read("SELECT value FROM meta WHERE name='flush'")
        return int(rows[0][0]) if rows else 0

    # for the owner of buckets

    async def waiting(self, held: Held, limit: int, excluded: Collection[int] = ()) -> list[JournalEntry]:
        """The oldest entries of these buckets that are due, in order. Raises LeaseLost."""

        def work(statements: PostgresStatements) -> list[JournalEntry]:
            rows = statements.execute(_DUE, (list(held), list(excluded), limit))
            buckets = sorted({row[-1] for row in rows})  # the check locks their leases, which costs a write for each
            if buckets:
                statements.execute(_CHECK, (buckets, [held[bucket] for bucket in buckets]))
            return [parse_entry(row[:-2], row[-2]) for row in rows]

        return await self._transact(work) if held else []

    async def backlogs(self, held: Held) -> dict[int, BucketBacklog]:
        """What of these buckets waits and is due, without reading it."""
        rows = await self._database.read(_BACKLOGS, (list(held),)) if held else []
        return {bucket: BucketBacklog(*values) for bucket, *values in rows}

    async def next_due(self, held: Held, excluded: Collection[int] = ()) -> float | None:
        """When the next failed entry of these buckets is due."""
        statement = "SELECT seq, due FROM entries WHERE state=0 AND tries>0 AND bucket = ANY (?::int[])"
        rows = await self._database.read(statement, (list(held),))
        return min((due for seq, due in rows if seq not in excluded), default=None)

    async def mark_stored(self, held: Held, seqs: Iterable[int], outdated: Mapping[str, int] | None = None) -> None:
        """Mark entries done. `outdated`, by id of their records: the numbers of entries that supersede earlier ones,
        whose texts are dropped. Raises LeaseLost."""
        outdated = outdated or {}
        newest = list(outdated.values())
        await self._database.read(_MARK_STORED, (list(held), list(held.values()), list(seqs), list(outdated), newest))

    async def mark_failed(self, held: Held, seqs: Iterable[int]) -> int:
        """Count a failed try of each, and schedule the next one. Returns how many became dead letters. Raises
        LeaseLost."""
        values = (list(held), list(held.values()), list(seqs), _FIRST_PAUSE, _MAX_TRIES)
        rows = await self._transact(lambda statements: statements.execute(_MARK_FAILED, values))
        return int(rows[0][0])

    async def requeue(self, held: Held, seqs: Iterable[int]) -> None:
        """Let done entries wait again. Raises LeaseLost."""
        statement = "UPDATE entries SET state=0, tries=0, due=0 WHERE payload IS NOT NULL AND seq = ANY (?::bigint[])"
        await self._change(held, list(seqs), statement)

    async def discard(self, held: Held, seqs: Iterable[int]) -> None:
        """Drop entries that are not done. Raises LeaseLost."""
        await self._change(held, list(seqs), "DELETE FROM entries WHERE state<>1 AND seq = ANY (?::bigint[])")

    async def revive(self, held: Held) -> None:
        """Let dead letters of these buckets wait again. Raises LeaseLost."""

        def work(statements: PostgresStatements) -> None:
            statements.execute(_CHECK, (list(held), list(held.values())))
            statement = "UPDATE entries SET state=0, tries=0, due=0 WHERE state=2 AND bucket = ANY (?::int[])"
            statements.execute(statement, (list(held),))

        await self._transact(work)

    # for all

    async def tombstones(self) -> list[Record]:
        """Deletions that are not stored yet."""
        rows = await self._database.read("SELECT payload FROM entries WHERE state<>1 AND is_tombstone ORDER BY seq")
        return [parse_record(payload) for (payload,) in rows]

    async def count(self) -> tuple[int, int, int]:
        """The numbers of waiting entries, of their bytes, and of dead letters."""
        rows = await self._database.read(
            "SELECT state, count(*), CAST(coalesce(sum(octet_length(payload)), 0) AS BIGINT) FROM entries "
            "WHERE state<>1 GROUP BY state"
        )
        counts = {state: (entries, size) for state, entries, size in rows}
        waiting, size = counts.get(0, (0, 0))
        return waiting, size, counts.get(2, (0, 0))[0]

    async def unstored(self, before: int) -> list[JournalEntry]:
        """Entries up to a number that are not done."""
        rows = await self._database.read(_UNSTORED, (before,))
        return [parse_entry(row, before) for row in rows]

    async def unstored_sizes(self, scopes: Collection[str]) -> dict[str, ScopeSize]:
        """The numbers of new memories in these scopes that no table has yet."""
        rows = await self._database.read(_UNSTORED_SIZES, (list(scopes),))
        return {scope: ScopeSize(count, at) for scope, count, at in rows}

    async def is_drained(self, before: int, scopes: Collection[str] | None = None) -> bool:
        """True if all entries of these scopes (None: of all) up to a number are stored, but those that failed, and wait
        for a retry."""
        condition, values = ("", []) if scopes is None else (" AND scope = ANY (?::text[])", [list(scopes)])
        statement = f"SELECT NOT EXISTS (SELECT 1 FROM entries WHERE state=0 AND tries=0 AND seq<=?{condition})"  # noqa: S608 — ours
        return bool((await self._database.read(statement, (before, *values)))[0][0])

    async def waiting_seqs(self) -> list[int]:
        """The numbers of all waiting entries, in order."""
        return [seq for (seq,) in await self._database.read("SELECT seq FROM entries WHERE state=0 ORDER BY seq")]

    async def retained(self, seqs: Collection[int] | None = None) -> list[JournalEntry]:
        """The newest done entries that still have their texts, or some of them, in order."""
        rows = await self._database.read(_RETAINED, (_MAX_RECOVERED,))
        return [parse_entry(row, row[0]) for row in rows[::-1] if seqs is None or row[0] in seqs]

    async def retained_ids(self) -> dict[int, str]:
        rows = await self._database.read(
            "SELECT seq, id FROM entries WHERE state=1 AND payload IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (_MAX_RECOVERED,),
        )
        return {seq: record_id(id_) for seq, id_ in rows}

    async def purge(self, scopes: Iterable[str]) -> None:
        """Erase the retained texts of these scopes, and the claims to their messages."""
        rows = [(scope,) for scope in scopes]
        await self._database.write(
            "UPDATE entries SET payload=NULL, vector=NULL WHERE state=1 AND payload IS NOT NULL AND scope=?", rows
        )
        await self._database.write("DELETE FROM claims WHERE scope=?", rows)

    async def sweep(self) -> None:
        """Drop old texts, ids and claims. `meta.swept`: the newest number that was dropped with its id."""
        last = await self.last_seq() - _MIN_RETAINED_TEXTS

        def work(statements: PostgresStatements) -> None:
            now = statements.execute("SELECT now_seconds()")[0][0]
            statements.execute(_DROP_OLD_TEXTS, (last, now - _TEXT_RETENTION, _MAX_SWEPT))
            rows = statements.execute(_DROP_OLD_IDS, (now - self._id_retention, _MAX_SWEPT))
            if rows:
                statements.execute(_NOTE_SWEPT, (max(seq for (seq,) in rows),))
            statements.execute("DELETE FROM claims WHERE until<?", (now,))

        await self._transact(work)

    async def _change(self, held: Held, seqs: list[int], statement: str) -> None:
        def work(statements: PostgresStatements) -> None:
            statements.execute(_CHECK_ENTRIES, (list(held), list(held.values()), seqs))
            statements.execute(statement, (seqs,))

        await self._transact(work)

    async def _transact(self, work: Callable[[PostgresStatements], _T]) -> _T:
        return await self._database.run(lambda: self._database.transaction(work))
