"""The journal: what is to be remembered, durable before a client sees the end of its answer.

SQLite in WAL mode with `synchronous=FULL`. One thread owns the connection; appends that come while a commit runs share
the next one (group commit). An entry is waiting until the store has it and has synced its files (what is stored but not
synced is known to this process only: another one stores it again, which changes nothing). Then it is done. The newest
done entries keep their text for a while, for a store that lost its newest files (`kept`, `requeue`); the text of what
was deleted leaves as soon as the deletion is stored. An id stays a day, so that a client's retry makes nothing twice.
An entry that failed is due again later and blocks nobody meanwhile; after five tries it goes aside until the next
start.
"""

import asyncio
import os
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import orjson

from gateway.store.loaded import SHARED
from gateway.store.sqlite_file import SqliteFile
from gateway.turn import Record

__all__ = ["Entry", "Journal", "JournalFailed"]

_AT_ONCE = 256  # records that are written as JSON on the event loop; a millisecond or two
_SCHEMA = """
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
_TRIES = 5
_FIRST_PAUSE = 0.5  # seconds until the second try; each later pause is twice as long
_KEEP_IDS = 86_400.0  # seconds that the id of a finished entry stays
_KEEP_TEXTS = 900.0  # seconds that the text of one stays at least, and
_NEWEST_TEXTS = 1_000  # of so many of the newest however old
_LOOKED_AT = 20_000  # of these, when the store may have lost some
_SWEEP_EVERY = 60.0
_NEWEST = 2**62
_IS_DELETED = b'"status":"deleted"'  # in a tombstone's JSON


class JournalFailed(Exception):
    """Nothing was written: the disk is full, the backlog is at its limit, or the journal is closed."""


class _State(IntEnum):
    WAITING = 0
    DONE = 1
    ASIDE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the journal. `seq` grows with each entry; `is_replay` if an earlier process may have stored it."""

    seq: int
    record: Record
    size: int
    is_replay: bool


@dataclass(slots=True)
class _Append:
    rows: list[tuple[str, bytes]]
    replaced: list[str]  # ids of which nothing earlier counts any more
    done: "asyncio.Future[None]"


class Journal:
    """Appends from the loop, reads by the writer. `on_append` is called in the loop after each commit."""

    def __init__(self, path: Path, max_bytes: int, on_append: Callable[[], None]) -> None:
        self._file = SqliteFile(path, _SCHEMA, "journal", JournalFailed)
        self._max_bytes = max_bytes
        self._on_append = on_append
        self._pending: deque[_Append] = deque()
        self._order = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None
        self._first_seq = 0
        self.last_seq = 0  # of the newest entry
        self._stored: dict[int, int] = {}  # size by seq
        self._outdated: dict[str, int] = {}  # ids of stored changes and deletions, with the number of each
        self._swept_at = 0.0
        self.backlog_entries = 0
        self.backlog_bytes = 0
        self.aside_entries = 0

    async def open(self) -> None:
        """Create or reopen the file. Raises JournalFailed."""
        if not self._file.is_open:
            await self._file.open()
            # what was given up may have been the fault of a table that is mended now
            await self._file.write("UPDATE entries SET state=0, tries=0, due=0 WHERE state=?", [(_State.ASIDE,)])
            self._first_seq = await self._file.run(self._next_seq)
            self.last_seq = self._first_seq - 1
            await self._recount()

    async def close(self) -> None:
        """Commit what is pending and close."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=10)
        await self._file.close()

    async def append(self, records: Sequence[Record], *, may_exist: bool = False) -> None:
        """Write records durably; those that are there are left as they are. Raises JournalFailed, then wrote none.

        A change of a record (`version` over 1) is an entry of its own, and so is all with `may_exist`: then it is for
        the store to know.
        """
        ending = f".{os.urandom(8).hex()}" if may_exist else ""
        async with self._order:  # a change that comes later must not overtake
            if len(records) <= _AT_ONCE:
                rows = _rows(records, ending)
            else:
                rows = await asyncio.to_thread(_rows, records, ending)
            waiting = self._enqueue(rows, [record.id for record in records] if may_exist else [])
        await asyncio.shield(waiting.done)

    def _enqueue(self, rows: list[tuple[str, bytes]], replaced: list[str]) -> "_Append":
        """Put rows into the next commit. Raises JournalFailed."""
        size = sum(len(payload) for _, payload in rows)
        if not self._file.is_open:
            raise JournalFailed("the journal is not open")
        if self.backlog_bytes + size > self._max_bytes:
            raise JournalFailed("the backlog is at its limit")
        waiting = _Append(rows, replaced, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="journal-flush")
        return waiting

    async def waiting(self, limit: int) -> list[Entry]:
        """The oldest entries that the store does not have yet and that are due, in order."""
        return await self._file.run(lambda: self._waiting(limit))

    async def next_due(self) -> float | None:
        """When the next failed entry is due, in seconds since 1970; None if there is none."""
        return await self._file.run(self._next_due)

    async def deleted(self) -> list[Record]:
        """Deletions that the store does not know yet."""
        return await self._file.run(self._deleted)

    async def kept(self) -> list[Entry]:
        """The newest of what the store has: it can be stored again from here."""
        return await self._file.run(self._kept)

    async def requeue(self, entries: Iterable[Entry]) -> None:
        """The store has lost these: they wait again."""
        seqs = [(_State.WAITING, entry.seq) for entry in entries]
        await self._file.write("UPDATE entries SET state=?, tries=0, due=0 WHERE seq=?", seqs)
        await self._recount()

    async def unstored(self, before: int) -> list[Entry]:
        """What the store could not take so far, up to a number: it waits for another try, or went aside."""
        return await self._file.run(lambda: self._unstored(before))

    async def discard(self, entries: Sequence[Entry]) -> None:
        """Give these up: nobody wants them stored any more."""
        await self._file.write("DELETE FROM entries WHERE state!=1 AND seq=?", [(entry.seq,) for entry in entries])
        await self._recount()

    async def purge(self, scopes: Iterable[str]) -> None:
        """Take out the texts that are kept of these scopes, and what SQLite still has on the disk of deleted texts."""
        kept = [(scope.encode(),) for scope in scopes]
        await self._file.write("UPDATE entries SET payload=NULL WHERE state=1 AND instr(payload, ?)>0", kept)
        await self.scrub()

    async def scrub(self) -> None:
        """Leave nothing of what was deleted in the files."""
        await self._file.scrub()

    async def position(self) -> tuple[int, int]:
        """The newest sequence number, and the oldest that the store does not have yet (newest + 1 if it has all)."""
        return await self._file.run(self._position)

    def mark_stored(self, entries: Iterable[Entry]) -> None:
        """The store has them, though perhaps not on the disk yet."""
        for entry in entries:
            self._stored[entry.seq] = entry.size
            if entry.record.version > 1 or entry.record.status == "deleted":
                self._outdated[entry.record.id] = max(entry.seq, self._outdated.get(entry.record.id, 0))
            self.backlog_entries -= 1
            self.backlog_bytes -= entry.size

    async def mark_synced(self) -> None:
        """All that was stored before the store's sync began is on the disk."""
        synced, self._stored = self._stored, {}
        outdated, self._outdated = self._outdated, {}
        try:
            await self._file.run(lambda: self._mark_synced(synced, outdated))
        except JournalFailed:
            self._stored |= synced
            self._outdated = outdated | self._outdated
            raise

    async def mark_failed(self, entries: Iterable[Entry]) -> int:
        """One more try was in vain. Returns how many went aside for good."""
        seqs = [entry.seq for entry in entries]
        before = self.aside_entries
        await self._file.run(lambda: self._mark_failed(seqs))
        await self._recount()
        return self.aside_entries - before

    async def _recount(self) -> None:
        """The figures of what waits, without what is stored and not yet synced. They change in the loop only."""
        waiting, size, aside = await self._file.run(self._count)
        self.backlog_entries = waiting - len(self._stored)
        self.backlog_bytes = size - sum(self._stored.values())
        self.aside_entries = aside

    async def _flush(self) -> None:
        while self._pending:
            batch = list(self._pending)
            self._pending.clear()
            try:
                added, last = await self._file.run(lambda batch=batch: self._insert(batch))  # type: ignore[misc]  # not inferred
            except JournalFailed as error:
                for append in batch:
                    _settle(append.done, error)
            else:
                self.last_seq = max(self.last_seq, last)
                self.backlog_entries += len(added)
                self.backlog_bytes += sum(added)
                for append in batch:
                    _settle(append.done, None)
                self._on_append()

    # What follows runs in the journal's thread.

    def _next_seq(self) -> int:
        found: int = self._file.connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM entries").fetchone()[0]
        return found

    def _insert(self, batch: Sequence[_Append]) -> tuple[list[int], int]:
        """The sizes of the rows that were new, and the newest sequence number."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> tuple[list[int], int]:
            added: list[int] = []
            last = 0
            _let_go(connection, [(id_, _NEWEST) for append in batch for id_ in append.replaced])
            for id_, payload in (row for append in batch for row in append.rows):
                cursor = connection.execute(
                    "INSERT INTO entries (id, state, at, payload) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    (id_, _State.WAITING, now, payload),
                )
                if cursor.rowcount:
                    added.append(len(payload))
                    last = cursor.lastrowid or 0
            return added, last

        return self._file.transaction(work)

    def _waiting(self, limit: int) -> list[Entry]:
        connection = self._file.connection
        due = connection.execute(
            "SELECT seq FROM entries WHERE state=? AND due<=? ORDER BY seq LIMIT ?",
            (_State.WAITING, time.time(), limit + len(self._stored)),
        )
        wanted = [seq for (seq,) in due if seq not in self._stored][:limit]
        places = ",".join("?" * len(wanted))  # only question marks go into the statement
        rows = connection.execute(
            f"SELECT seq, id, payload, tries FROM entries WHERE seq IN ({places}) ORDER BY seq",  # noqa: S608
            wanted,
        )
        return [
            Entry(seq, _record(payload), len(payload), seq < self._first_seq or tries > 0 or "." in id_)
            for seq, id_, payload, tries in rows
        ]

    def _deleted(self) -> list[Record]:
        # a tombstone is short and its JSON names its status; what merely mentions it is sorted out below
        rows = self._file.connection.execute(
            "SELECT payload FROM entries WHERE state=? AND instr(payload, ?) > 0",
            (_State.WAITING, _IS_DELETED),
        )
        found = [_record(payload) for (payload,) in rows]
        return [record for record in found if record.status == "deleted"]

    def _kept(self) -> list[Entry]:
        rows = self._file.connection.execute(
            "SELECT seq, payload FROM entries WHERE state=1 AND payload IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (_LOOKED_AT,),
        )
        return [Entry(seq, _record(payload), len(payload), True) for seq, payload in rows.fetchall()[::-1]]

    def _position(self) -> tuple[int, int]:
        connection = self._file.connection
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        waiting = connection.execute("SELECT seq FROM entries WHERE state=? ORDER BY seq", (_State.WAITING,))
        first = next((seq for (seq,) in waiting if seq not in self._stored), last + 1)
        return last, first

    def _next_due(self) -> float | None:
        row = self._file.connection.execute("SELECT min(due) FROM entries WHERE state=? AND tries>0", (_State.WAITING,))
        due: float | None = row.fetchone()[0]
        return due

    def _unstored(self, before: int) -> list[Entry]:
        rows = self._file.connection.execute(
            "SELECT seq, payload FROM entries WHERE state!=1 AND seq<=? ORDER BY seq", (before,)
        )
        found = [(seq, payload) for seq, payload in rows if seq not in self._stored]
        return [Entry(seq, _record(payload), len(payload), True) for seq, payload in found]

    def _mark_synced(self, seqs: Iterable[int], outdated: Mapping[str, int]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE entries SET state=? WHERE seq=?", [(_State.DONE, seq) for seq in seqs])
            _let_go(connection, outdated.items())
            now = time.time()
            if not 0 <= now - self._swept_at < _SWEEP_EVERY:
                self._swept_at = now
                self._sweep(connection, now)

        self._file.transaction(work)

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        connection.execute(
            "UPDATE entries SET payload=NULL WHERE state=1 AND payload IS NOT NULL AND seq<=? AND at<?",
            (last - _NEWEST_TEXTS, now - _KEEP_TEXTS),
        )
        connection.execute(
            "DELETE FROM entries WHERE state=1 AND payload IS NULL AND at<?",
            (now - _KEEP_IDS,),
        )

    def _mark_failed(self, seqs: Sequence[int]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE entries SET due=?+?*(1<<tries), tries=tries+1 WHERE seq=?",
                [(time.time(), _FIRST_PAUSE, seq) for seq in seqs],
            )
            connection.execute(
                "UPDATE entries SET state=? WHERE state=? AND tries>=?", (_State.ASIDE, _State.WAITING, _TRIES)
            )

        self._file.transaction(work)

    def _count(self) -> tuple[int, int, int]:
        """Entries that wait, their bytes, and entries that went aside."""
        rows = self._file.connection.execute(
            "SELECT state, count(*), coalesce(sum(length(payload)), 0) FROM entries WHERE state!=? GROUP BY state",
            (_State.DONE,),
        )
        counts = {state: (entries, size) for state, entries, size in rows}
        waiting, size = counts.get(_State.WAITING, (0, 0))
        return waiting, size, counts.get(_State.ASIDE, (0, 0))[0]


def _let_go(connection: sqlite3.Connection, newest: Iterable[tuple[str, int]]) -> None:
    """Drop the texts that are kept of versions of records before the newest, which has this number."""
    connection.executemany(
        "UPDATE entries SET payload=NULL WHERE state=1 AND (id=? OR (id>? AND id<?)) AND seq<?",
        [(id_, f"{id_}.", f"{id_}/", seq) for id_, seq in newest],  # "/" follows "."
    )


def _settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _rows(records: Iterable[Record], ending: str) -> list[tuple[str, bytes]]:
    return [(_entry_id(record) + ending, orjson.dumps(record, default=dict)) for record in records]


def _entry_id(record: Record) -> str:
    return record.id if record.version == 1 else f"{record.id}.{record.version}.{record.updated_at}"


def _record(payload: bytes) -> Record:
    fields = orjson.loads(payload)
    fields["tags"] = tuple(fields["tags"])
    fields["links"] = tuple(fields["links"])
    for name in SHARED:
        fields[name] = sys.intern(fields[name])
    return Record(**fields)
