"""The journal: a write-ahead log of memories, durable before a client sees the end of its answer.

SQLite in WAL mode with `synchronous=FULL`. One thread owns the connection; appends that come while a commit runs share
the next one (`GroupCommit`). An entry is waiting until the store has written it and synced its files, then it is done.
New entries are handed to the writer from memory; only after a start, a failure or a long backlog they are read back.
Entries that are written but not synced are known to this process only: another process writes them again, which is
idempotent. The newest done entries keep their text for a while, for a store that lost its newest files (`retained`,
`requeue`); the text of a deleted record is removed as soon as the deletion is stored. An id stays a day, so that a
client's retry creates no duplicate. A failed entry is retried later without blocking the others; after five tries it
is dead-lettered until the next start. A vector that comes with a record is not part of the file.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.memory.record import Record
from gateway.storage.errors import StorageError
from gateway.storage.group_commit import GroupCommit
from gateway.storage.sqlite.database import Database, Sharing
from gateway.storage.sqlite.fresh_entries import FreshEntries
from gateway.storage.sqlite.journal_rows import (
    State,
    build_rows,
    count_entries,
    drop_texts,
    grant_claim,
    parse_record,
    read_due,
    read_next_due,
    read_position,
    read_retained,
    read_retained_ids,
    read_tombstones,
    read_unstored,
    read_waiting_after,
    sweep,
)
from gateway.storage.values import Claim, GivenVector, JournalEntry

__all__ = ["MIGRATIONS", "Journal"]

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
_VERSION_2 = """
CREATE TABLE IF NOT EXISTS claims (
    fingerprint BLOB PRIMARY KEY, turn TEXT NOT NULL, at REAL NOT NULL, scope TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_by_scope ON claims (scope);
"""
MIGRATIONS = (_VERSION_1, _VERSION_2)
_MAX_TRIES = 5
_FIRST_PAUSE = 0.5  # seconds until the second try; each later pause is twice as long
_LONGEST_PAUSE = 16.0  # a later time is from before the clock was set back
_SWEEP_INTERVAL = 60.0
_MAX_SEQ = 2**62


@dataclass(frozen=True, slots=True)
class _Append:
    rows: list[tuple[str, bytes]]
    records: Sequence[Record]
    vectors: Mapping[str, GivenVector]  # by id
    claims: Mapping[str, Claim]  # by id
    replaced: list[str]  # ids whose earlier entries are superseded


class Journal:
    """The log: the event loop appends, the writer reads. `on_append` is called in the loop after each commit.

    Several processes can append to one file. One of them owns it, and marks the entries; it is told by `catch_up` when
    others have appended.
    """

    def __init__(
        self, path: Path, max_bytes: int, on_append: Callable[[], None], *, sharing: Sharing = Sharing.NONE
    ) -> None:
        self._sharing = sharing
        self._database = Database(path, "journal", MIGRATIONS, is_owner=sharing is not Sharing.FOLLOWER)
        self._max_bytes = max_bytes
        self._on_append = on_append
        self._commits = GroupCommit(self._commit)
        self._order = asyncio.Lock()
        self._first_seq = 0
        self.last_seq = 0  # of the newest entry
        self._known_seq = 0  # entries up to it were taken; of the journal's thread
        self._fresh = FreshEntries()
        self._searchable: set[int] = set()  # entries that recall has, and that are not stored yet
        self._stored: dict[int, int] = {}  # size by seq
        self._outdated: dict[str, int] = {}  # sequence numbers of stored changes and deletions by id
        self._swept_at = 0.0
        self.backlog_entries = 0
        self.backlog_bytes = 0
        self.aside_entries = 0

    async def open(self) -> None:
        """Create or reopen the file. Raises StorageError."""
        if not await self._database.open():
            return
        if self._sharing is not Sharing.FOLLOWER:
            # retry dead letters: the cause may have been a table that is repaired now
            await self._database.write("UPDATE entries SET state=0, tries=0, due=0 WHERE state=?", [(State.ASIDE,)])
            self._first_seq = await self._database.run(self._next_seq)
            self.last_seq = self._known_seq = self._first_seq - 1
            await self._recount()

    async def close(self) -> None:
        """Commit pending appends and close."""
        await self._commits.close()
        await self._database.close()

    async def append(
        self,
        records: Sequence[Record],
        *,
        may_exist: bool = False,
        vectors: Mapping[str, GivenVector] | None = None,
        claims: Mapping[str, Claim] | None = None,
    ) -> int:
        """Write records durably; existing ids are left unchanged. Raises StorageError, and then writes none.

        A change of a record (`version` over 1) is an entry of its own. With `may_exist` every record is: then the store
        decides whether it is new. `vectors`, by id, are not part of the file. A record whose claim is refused is left
        out. Returns the sequence number of the newest entry.
        """
        suffix = f".{os.urandom(8).hex()}" if may_exist else ""
        async with self._order:  # a later change must not overtake an earlier one
            if len(records) <= _MAX_INLINE:
                rows = build_rows(records, suffix)
            else:
                rows = await asyncio.to_thread(build_rows, records, suffix)
            replaced = [record.id for record in records] if may_exist else []
            done = self._enqueue(rows, records, vectors or {}, claims or {}, replaced)
        return await asyncio.shield(done)

    async def catch_up(self) -> None:
        """Take the entries that other processes have appended. Raises StorageError."""
        if self._sharing is Sharing.OWNER:
            await asyncio.shield(self._enqueue([], (), {}, {}, []))

    async def drop_claims(self, scopes: Iterable[str]) -> None:
        """Drop the claims to messages of these scopes. Raises StorageError."""
        if self._sharing is not Sharing.NONE:
            await self._database.write("DELETE FROM claims WHERE scope=?", [(scope,) for scope in scopes])

    def _enqueue(
        self,
        rows: list[tuple[str, bytes]],
        records: Sequence[Record],
        vectors: Mapping[str, GivenVector],
        claims: Mapping[str, Claim],
        replaced: list[str],
    ) -> "asyncio.Future[int]":
        """Add rows to the next commit. Raises StorageError."""
        size = sum(len(payload) for _, payload in rows)
        if not self._database.is_open:
            raise StorageError("journal", "the journal is not open")
        if rows and self.backlog_bytes + size > self._max_bytes:
            raise StorageError("journal", "the backlog is at its limit")
        return self._commits.add(_Append(rows, records, vectors, claims, replaced))

    async def waiting(self, limit: int) -> list[JournalEntry]:
        """The oldest due entries that recall does not have, in order."""
        if not self._fresh.is_complete:
            losses = self._fresh.losses
            entries, has_others = await self._database.run(partial(self._load_waiting, limit, self._in_memory()))
            if has_others or losses != self._fresh.losses:
                return entries
            self._fresh.complete(entries)
        return self._fresh.first(limit)

    def mark_searchable(self, entries: Iterable[JournalEntry]) -> None:
        """Note that recall has these entries: `waiting` gives the ones after them. Later they are stored, or fail."""
        seqs = {entry.seq for entry in entries}
        self._searchable |= seqs
        self._fresh.remove(seqs)

    async def next_due(self) -> float | None:
        """When the next failed entry is due, in seconds since 1970; None if there is none."""
        if self._fresh.is_complete:
            return None
        excluded = self._in_memory()
        due = await self._database.run(lambda: read_next_due(self._database.connection, excluded))
        return None if due is None else min(due, time.time() + _LONGEST_PAUSE)

    async def tombstones(self) -> list[Record]:
        """Tombstones that the store has not synced yet."""
        return await self._database.run(lambda: read_tombstones(self._database.connection))

    async def retained(self, seqs: Collection[int] | None = None) -> list[JournalEntry]:
        """The newest stored entries that still have their text, so that they can be stored again, or some of them."""
        return await self._database.run(lambda: read_retained(self._database.connection, seqs))

    async def retained_ids(self) -> dict[int, str]:
        """The ids of the records of these entries by sequence number, which are read without their texts."""
        return await self._database.run(lambda: read_retained_ids(self._database.connection))

    async def requeue(self, entries: Iterable[JournalEntry]) -> None:
        """Set entries that the store has lost back to waiting."""
        rows = [(State.WAITING, entry.seq) for entry in entries]
        self._fresh.clear()
        await self._database.write("UPDATE entries SET state=?, tries=0, due=0 WHERE seq=?", rows)
        await self._recount()

    async def unstored(self, before: int) -> list[JournalEntry]:
        """Entries up to a sequence number that are not stored so far: waiting, awaiting a retry, or dead letters."""
        stored = set(self._stored)
        return await self._database.run(lambda: read_unstored(self._database.connection, before, stored))

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Drop entries that are obsolete and need not be stored."""
        self._fresh.clear()
        await self._database.write("DELETE FROM entries WHERE state!=1 AND seq=?", [(entry.seq,) for entry in entries])
        await self._recount()

    async def purge(self, scopes: Iterable[str] = ()) -> None:
        """Erase the retained texts of these scopes, and remains of deleted texts in SQLite's files."""
        scopes = list(scopes)
        erase = "UPDATE entries SET payload=NULL WHERE state=1 AND instr(payload, ?)>0"
        await self._database.write(erase, [(scope.encode(),) for scope in scopes])
        await self.drop_claims(scopes)
        await self._database.scrub()

    async def position(self) -> tuple[int, int]:
        """The newest sequence number, and the oldest one that cannot be found (newest + 1 if all can)."""
        searchable = self._in_memory()
        return await self._database.run(lambda: read_position(self._database.connection, searchable))

    def mark_stored(self, entries: Iterable[JournalEntry]) -> None:
        """Note that the store has written entries, which may not be on the disk yet."""
        entries = [entry for entry in entries if entry.seq not in self._stored]
        self._fresh.remove({entry.seq for entry in entries})
        for entry in entries:
            self._searchable.discard(entry.seq)
            self._stored[entry.seq] = entry.size
            if entry.record.version > 1 or entry.record.status == "deleted":
                self._outdated[entry.record.id] = max(entry.seq, self._outdated.get(entry.record.id, 0))
            self.backlog_entries -= 1
            self.backlog_bytes -= entry.size

    async def mark_synced(self) -> None:
        """Mark all entries done that were stored before the store's sync began: they are on the disk."""
        synced = dict(self._stored)  # they count as stored until the file says that they are done
        outdated, self._outdated = self._outdated, {}
        try:
            await self._database.run(lambda: self._mark_synced(synced, outdated))
        except StorageError:
            self._outdated = outdated | self._outdated
            raise
        for seq in synced:
            self._stored.pop(seq, None)

    async def mark_failed(self, entries: Iterable[JournalEntry]) -> int:
        """Count a failed try and schedule the next one. Returns how many entries were dead-lettered."""
        seqs = [entry.seq for entry in entries]
        before = self.aside_entries
        await self._database.run(lambda: self._mark_failed(seqs))
        self._searchable.difference_update(seqs)
        self._fresh.clear()
        await self._recount()
        return self.aside_entries - before

    def _in_memory(self) -> set[int]:
        """The waiting entries that recall has, or that are stored and not synced."""
        return self._searchable | self._stored.keys()

    async def _recount(self) -> None:
        """Refresh the backlog figures, which exclude stored but unsynced entries, and those of other processes that are
        counted when they are taken. They change in the loop only."""
        waiting, size, aside = await self._database.run(
            lambda: count_entries(self._database.connection, self._known_seq)
        )
        self.backlog_entries = waiting - len(self._stored)
        self.backlog_bytes = size - sum(self._stored.values())
        self.aside_entries = aside

    async def _commit(self, batch: Sequence[_Append]) -> list[int]:
        """Write a batch. Returns the number of the newest entry for each part of it."""
        added, last = await self._database.run(lambda: self._insert(batch))
        self.last_seq = max(self.last_seq, last)
        self.backlog_entries += len(added)
        self.backlog_bytes += sum(entry.size for entry in added)
        if self._sharing is not Sharing.FOLLOWER:
            self._fresh.add(added)
        if added:
            self._on_append()
        return [self.last_seq] * len(batch)

    # All methods below run in the journal's thread.

    def _next_seq(self) -> int:
        seq: int = self._database.connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM entries").fetchone()[0]
        return seq

    def _insert(self, batch: Sequence[_Append]) -> tuple[list[JournalEntry], int]:
        """Insert rows with new ids. Returns their entries, after those of other processes, and the newest sequence
        number."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> tuple[list[JournalEntry], int]:
            added = read_waiting_after(connection, self._known_seq) if self._sharing is Sharing.OWNER else []
            drop_texts(connection, [(id_, _MAX_SEQ) for append in batch for id_ in append.replaced])
            rows = (
                (row, record, append, append.claims.get(record.id))
                for append in batch
                for row, record in zip(append.rows, append.records, strict=True)
            )
            last = 0
            for (id_, payload), record, append, claim in rows:
                if claim is not None and not grant_claim(connection, claim):
                    continue
                cursor = connection.execute(
                    "INSERT INTO entries (id, state, at, payload) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    (id_, State.WAITING, now, payload),
                )
                if cursor.rowcount:
                    last = cursor.lastrowid or 0
                    is_replay, vector = bool(append.replaced), append.vectors.get(record.id)
                    added.append(JournalEntry(last, record, len(payload), is_replay, vector))
            return added, max(last, added[-1].seq if added else 0)

        if any(append.rows for append in batch):
            added, last = self._database.transaction(work)
        else:
            added, last = work(self._database.connection)
        self._known_seq = max(self._known_seq, last)
        return added, last

    def _load_waiting(self, limit: int, excluded: Container[int]) -> tuple[list[JournalEntry], bool]:
        """The oldest due entries that recall does not have, and True if others wait."""
        rows, has_others = read_due(self._database.connection, limit, excluded, _LONGEST_PAUSE)
        entries = [
            JournalEntry(seq, parse_record(payload), len(payload), seq < self._first_seq or tries > 0 or "." in id_)
            for seq, id_, payload, tries in rows
        ]
        return entries, has_others

    def _mark_synced(self, seqs: Iterable[int], outdated: Mapping[str, int]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE entries SET state=? WHERE seq=?", [(State.DONE, seq) for seq in seqs])
            drop_texts(connection, outdated.items())
            now = time.time()
            if not 0 <= now - self._swept_at < _SWEEP_INTERVAL:
                self._swept_at = now
                sweep(connection, now)

        self._database.transaction(work)

    def _mark_failed(self, seqs: Sequence[int]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE entries SET due=?+?*(1<<tries), tries=tries+1 WHERE seq=?",
                [(time.time(), _FIRST_PAUSE, seq) for seq in seqs],
            )
            connection.execute(
                "UPDATE entries SET state=? WHERE state=? AND tries>=?", (State.ASIDE, State.WAITING, _MAX_TRIES)
            )

        self._database.transaction(work)
