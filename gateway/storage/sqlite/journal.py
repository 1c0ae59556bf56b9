"""The journal: a write-ahead log of memories, durable before a client sees the end of its answer.

SQLite in WAL mode with `synchronous=FULL`. One thread owns the connection; appends that come while a commit runs share
the next one (group commit). An entry is waiting until the store has written it and synced its files, then it is done.
Entries that are written but not synced are known to this process only: another process writes them again, which is
idempotent. The newest done entries keep their text for a while, for a store that lost its newest files (`retained`,
`requeue`); the text of a deleted record is removed as soon as the deletion is stored. An id stays a day, so that a
client's retry creates no duplicate. A failed entry is retried later without blocking the others; after five tries it
is dead-lettered until the next start. A vector that comes with a record stays in RAM until that is stored or fails.
"""

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from gateway.memory.record import Record
from gateway.storage.errors import StorageError
from gateway.storage.given_vectors import GivenVectors
from gateway.storage.sqlite.database import Database
from gateway.storage.sqlite.journal_rows import build_rows, parse_record, record_id
from gateway.storage.values import GivenVector, JournalEntry

__all__ = ["Journal"]

_MAX_INLINE = 256  # records that are serialised on the event loop; a millisecond or two
_VERSION_1 = """
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    at REAL NOT NULL,
    payload BLOB
);
CREATE INDEX IF NOT EXISTS entries_by_state ON entries (state, seq);
CREATE INDEX IF NOT EXISTS entries_with_text ON entries (seq) WHERE state=1 AND payload IS NOT NULL;
"""
_MIGRATIONS = (_VERSION_1,)
_MAX_TRIES = 5
_FIRST_PAUSE = 0.5  # seconds until the second try; each later pause is twice as long
_ID_RETENTION = 86_400.0  # seconds that the id of a finished entry stays
_TEXT_RETENTION = 900.0  # seconds that the text of a finished entry stays at least
_MIN_RETAINED_TEXTS = 1_000  # newest entries whose text stays, however old they are
_MAX_RECOVERED = 20_000  # entries to read back when the store may have lost some
_SWEEP_INTERVAL = 60.0
_MAX_SEQ = 2**62
_TOMBSTONE_MARK = b'"status":"deleted"'  # in a tombstone's JSON


class _State(IntEnum):
    WAITING = 0
    DONE = 1
    ASIDE = 2


@dataclass(slots=True)
class _Append:
    rows: list[tuple[str, bytes]]
    replaced: list[str]  # ids whose earlier entries are superseded
    done: "asyncio.Future[None]"


class Journal:
    """The log: the event loop appends, the writer reads. `on_append` is called in the loop after each commit."""

    def __init__(self, path: Path, max_bytes: int, on_append: Callable[[], None]) -> None:
        self._database = Database(path, "journal", _MIGRATIONS)
        self._max_bytes = max_bytes
        self._on_append = on_append
        self._pending: deque[_Append] = deque()
        self._order = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None
        self._first_seq = 0
        self.last_seq = 0  # of the newest entry
        self._stored: dict[int, int] = {}  # size by seq
        self._outdated: dict[str, int] = {}  # sequence numbers of stored changes and deletions by id
        self.vectors = GivenVectors()
        self._swept_at = 0.0
        self.backlog_entries = 0
        self.backlog_bytes = 0
        self.aside_entries = 0

    async def open(self) -> None:
        """Create or reopen the file. Raises StorageError."""
        if await self._database.open():
            # retry dead letters: the cause may have been a table that is repaired now
            await self._database.write("UPDATE entries SET state=0, tries=0, due=0 WHERE state=?", [(_State.ASIDE,)])
            self._first_seq = await self._database.run(self._next_seq)
            self.last_seq = self._first_seq - 1
            await self._recount()

    async def close(self) -> None:
        """Commit pending appends and close."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=10)
        await self._database.close()

    async def append(
        self, records: Sequence[Record], *, may_exist: bool = False, vectors: Mapping[str, GivenVector] | None = None
    ) -> None:
        """Write records durably; existing ids are left unchanged. Raises StorageError, and then writes none.

        A change of a record (`version` over 1) is an entry of its own. With `may_exist` every record is: then the store
        decides whether it is new. `vectors`, by id, are not part of the file.
        """
        suffix = f".{os.urandom(8).hex()}" if may_exist else ""
        async with self._order:  # a later change must not overtake an earlier one
            if len(records) <= _MAX_INLINE:
                rows = build_rows(records, suffix)
            else:
                rows = await asyncio.to_thread(build_rows, records, suffix)
            append = self._enqueue(rows, [record.id for record in records] if may_exist else [])
            self.vectors.put(records, vectors or {})
        try:
            await asyncio.shield(append.done)
        except StorageError:
            self.vectors.drop(records)
            raise

    def _enqueue(self, rows: list[tuple[str, bytes]], replaced: list[str]) -> "_Append":
        """Add rows to the next commit. Raises StorageError."""
        size = sum(len(payload) for _, payload in rows)
        if not self._database.is_open:
            raise StorageError("journal", "the journal is not open")
        if self.backlog_bytes + size > self._max_bytes:
            raise StorageError("journal", "the backlog is at its limit")
        append = _Append(rows, replaced, asyncio.get_running_loop().create_future())
        self._pending.append(append)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="journal-flush")
        return append

    async def waiting(self, limit: int) -> list[JournalEntry]:
        """The oldest due entries that the store has not written yet, in order."""
        return await self._database.run(lambda: self._load_waiting(limit))

    async def next_due(self) -> float | None:
        """When the next failed entry is due, in seconds since 1970; None if there is none."""
        return await self._database.run(self._read_next_due)

    async def tombstones(self) -> list[Record]:
        """Tombstones that the store has not synced yet."""
        return await self._database.run(self._load_tombstones)

    async def retained(self, seqs: Collection[int] | None = None) -> list[JournalEntry]:
        """The newest stored entries that still have their text, so that they can be stored again, or some of them."""
        return await self._database.run(lambda: self._load_retained(seqs))

    async def retained_ids(self) -> dict[int, str]:
        """The ids of the records of these entries by sequence number, which are read without their texts."""
        return await self._database.run(self._load_retained_ids)

    async def requeue(self, entries: Iterable[JournalEntry]) -> None:
        """Set entries that the store has lost back to waiting."""
        rows = [(_State.WAITING, entry.seq) for entry in entries]
        await self._database.write("UPDATE entries SET state=?, tries=0, due=0 WHERE seq=?", rows)
        await self._recount()

    async def unstored(self, before: int) -> list[JournalEntry]:
        """Entries up to a sequence number that are not stored so far: waiting, awaiting a retry, or dead letters."""
        return await self._database.run(lambda: self._load_unstored(before))

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Drop entries that are obsolete and need not be stored."""
        await self._database.write("DELETE FROM entries WHERE state!=1 AND seq=?", [(entry.seq,) for entry in entries])
        self.vectors.drop(entry.record for entry in entries)
        await self._recount()

    async def purge(self, scopes: Iterable[str] = ()) -> None:
        """Erase the retained texts of these scopes, and remains of deleted texts in SQLite's files."""
        rows = [(scope.encode(),) for scope in scopes]
        await self._database.write("UPDATE entries SET payload=NULL WHERE state=1 AND instr(payload, ?)>0", rows)
        await self._database.scrub()

    async def position(self) -> tuple[int, int]:
        """The newest sequence number, and the oldest one that the store has not written (newest + 1 if it has all)."""
        return await self._database.run(self._read_position)

    def mark_stored(self, entries: Iterable[JournalEntry]) -> None:
        """Note that the store has written entries, which may not be on the disk yet."""
        for entry in entries:
            self._stored[entry.seq] = entry.size
            if entry.record.version > 1 or entry.record.status == "deleted":
                self._outdated[entry.record.id] = max(entry.seq, self._outdated.get(entry.record.id, 0))
            self.backlog_entries -= 1
            self.backlog_bytes -= entry.size
            self.vectors.drop([entry.record])

    async def mark_synced(self) -> None:
        """Mark all entries done that were stored before the store's sync began: they are on the disk."""
        synced, self._stored = self._stored, {}
        outdated, self._outdated = self._outdated, {}
        try:
            await self._database.run(lambda: self._mark_synced(synced, outdated))
        except StorageError:
            self._stored |= synced
            self._outdated = outdated | self._outdated
            raise

    async def mark_failed(self, entries: Iterable[JournalEntry]) -> int:
        """Count a failed try and schedule the next one. Returns how many entries were dead-lettered."""
        failed = list(entries)
        seqs = [entry.seq for entry in failed]
        self.vectors.drop(entry.record for entry in failed)  # it may be the cause
        before = self.aside_entries
        await self._database.run(lambda: self._mark_failed(seqs))
        await self._recount()
        return self.aside_entries - before

    async def _recount(self) -> None:
        """Refresh the backlog figures, which exclude stored but unsynced entries. They change in the loop only."""
        waiting, size, aside = await self._database.run(self._count)
        self.backlog_entries = waiting - len(self._stored)
        self.backlog_bytes = size - sum(self._stored.values())
        self.aside_entries = aside

    async def _flush(self) -> None:
        while self._pending:
            batch = list(self._pending)
            self._pending.clear()
            try:
                added, last = await self._database.run(lambda batch=batch: self._insert(batch))  # type: ignore[misc]  # not inferred
            except StorageError as error:
                for append in batch:
                    _settle(append.done, error)
            else:
                self.last_seq = max(self.last_seq, last)
                self.backlog_entries += len(added)
                self.backlog_bytes += sum(added)
                for append in batch:
                    _settle(append.done, None)
                self._on_append()

    # All methods below run in the journal's thread.

    def _next_seq(self) -> int:
        seq: int = self._database.connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM entries").fetchone()[0]
        return seq

    def _insert(self, batch: Sequence[_Append]) -> tuple[list[int], int]:
        """Insert rows with new ids. Returns their sizes, and the newest sequence number."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> tuple[list[int], int]:
            added: list[int] = []
            last = 0
            _drop_texts(connection, [(id_, _MAX_SEQ) for append in batch for id_ in append.replaced])
            for id_, payload in (row for append in batch for row in append.rows):
                cursor = connection.execute(
                    "INSERT INTO entries (id, state, at, payload) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    (id_, _State.WAITING, now, payload),
                )
                if cursor.rowcount:
                    added.append(len(payload))
                    last = cursor.lastrowid or 0
            return added, last

        return self._database.transaction(work)

    def _load_waiting(self, limit: int) -> list[JournalEntry]:
        connection = self._database.connection
        due = connection.execute(
            "SELECT seq FROM entries WHERE state=? AND due<=? ORDER BY seq LIMIT ?",
            (_State.WAITING, time.time(), limit + len(self._stored)),
        )
        seqs = [seq for (seq,) in due if seq not in self._stored][:limit]
        places = ",".join("?" * len(seqs))  # only question marks go into the statement
        rows = connection.execute(
            f"SELECT seq, id, payload, tries FROM entries WHERE seq IN ({places}) ORDER BY seq",  # noqa: S608
            seqs,
        )
        return [
            JournalEntry(seq, parse_record(payload), len(payload), seq < self._first_seq or tries > 0 or "." in id_)
            for seq, id_, payload, tries in rows
        ]

    def _load_tombstones(self) -> list[Record]:
        # a tombstone's JSON names its status; texts that merely contain that phrase are filtered out below
        rows = self._database.connection.execute(
            "SELECT payload FROM entries WHERE state=? AND instr(payload, ?) > 0",
            (_State.WAITING, _TOMBSTONE_MARK),
        )
        records = [parse_record(payload) for (payload,) in rows]
        return [record for record in records if record.status == "deleted"]

    def _load_retained(self, seqs: Collection[int] | None) -> list[JournalEntry]:
        rows = self._database.connection.execute(
            "SELECT seq, payload FROM entries WHERE state=1 AND payload IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (_MAX_RECOVERED,),
        )
        chosen = [(seq, payload) for seq, payload in rows if seqs is None or seq in seqs]
        return [JournalEntry(seq, parse_record(payload), len(payload), True) for seq, payload in chosen[::-1]]

    def _load_retained_ids(self) -> dict[int, str]:
        rows = self._database.connection.execute(
            "SELECT seq, id FROM entries WHERE state=1 AND payload IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (_MAX_RECOVERED,),
        )
        return {seq: record_id(id_) for seq, id_ in rows}

    def _read_position(self) -> tuple[int, int]:
        connection = self._database.connection
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        waiting = connection.execute("SELECT seq FROM entries WHERE state=? ORDER BY seq", (_State.WAITING,))
        first = next((seq for (seq,) in waiting if seq not in self._stored), last + 1)
        return last, first

    def _read_next_due(self) -> float | None:
        row = self._database.connection.execute(
            "SELECT min(due) FROM entries WHERE state=? AND tries>0", (_State.WAITING,)
        )
        due: float | None = row.fetchone()[0]
        return due

    def _load_unstored(self, before: int) -> list[JournalEntry]:
        rows = self._database.connection.execute(
            "SELECT seq, payload FROM entries WHERE state!=1 AND seq<=? ORDER BY seq", (before,)
        )
        pairs = [(seq, payload) for seq, payload in rows if seq not in self._stored]
        return [JournalEntry(seq, parse_record(payload), len(payload), True) for seq, payload in pairs]

    def _mark_synced(self, seqs: Iterable[int], outdated: Mapping[str, int]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE entries SET state=? WHERE seq=?", [(_State.DONE, seq) for seq in seqs])
            _drop_texts(connection, outdated.items())
            now = time.time()
            if not 0 <= now - self._swept_at < _SWEEP_INTERVAL:
                self._swept_at = now
                self._sweep(connection, now)

        self._database.transaction(work)

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        connection.execute(
            "UPDATE entries SET payload=NULL WHERE state=1 AND payload IS NOT NULL AND seq<=? AND at<?",
            (last - _MIN_RETAINED_TEXTS, now - _TEXT_RETENTION),
        )
        connection.execute(
            "DELETE FROM entries WHERE state=1 AND payload IS NULL AND at<?",
            (now - _ID_RETENTION,),
        )

    def _mark_failed(self, seqs: Sequence[int]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE entries SET due=?+?*(1<<tries), tries=tries+1 WHERE seq=?",
                [(time.time(), _FIRST_PAUSE, seq) for seq in seqs],
            )
            connection.execute(
                "UPDATE entries SET state=? WHERE state=? AND tries>=?", (_State.ASIDE, _State.WAITING, _MAX_TRIES)
            )

        self._database.transaction(work)

    def _count(self) -> tuple[int, int, int]:
        """Count the waiting entries, their bytes, and the dead letters."""
        rows = self._database.connection.execute(
            "SELECT state, count(*), coalesce(sum(length(payload)), 0) FROM entries WHERE state!=? GROUP BY state",
            (_State.DONE,),
        )
        counts = {state: (entries, size) for state, entries, size in rows}
        waiting, size = counts.get(_State.WAITING, (0, 0))
        return waiting, size, counts.get(_State.ASIDE, (0, 0))[0]


def _drop_texts(connection: sqlite3.Connection, newest: Iterable[tuple[str, int]]) -> None:
    """Drop the retained texts of superseded versions. `newest`: ids with the sequence number of the newest version."""
    connection.executemany(
        # the plus signs leave the index of ids to be used: by state, each id would cost a pass over all done entries
        "UPDATE entries SET payload=NULL WHERE +state=1 AND (id=? OR (id>? AND id<?)) AND +seq<?",
        [(id_, f"{id_}.", f"{id_}/", seq) for id_, seq in newest],  # "/" follows "."
    )


def _settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
