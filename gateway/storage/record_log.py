"""The interface of the journal. See `gateway.storage.protocols` for what holds for all interfaces of the storage."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from gateway.memory.record import Record
from gateway.storage.values import Claim, GivenVector, JournalEntry

__all__ = ["RecordLog"]


class RecordLog(Protocol):
    """A write-ahead log of records: every memory is in it before a client sees the end of its answer.

    An entry waits until it is marked stored; after the next `mark_synced` it is done. Entries that were stored but not
    synced when the process ended are delivered again. `backlog_entries` and `backlog_bytes` count what waits,
    `aside_entries` the dead letters: entries that failed several times, which wait for the next start.
    """

    last_seq: int
    """The sequence number of the newest entry; each entry has a larger one than those before it."""
    backlog_entries: int
    backlog_bytes: int
    aside_entries: int

    async def open(self) -> None:
        """Open the log, and make dead letters wait again. Does nothing if it is open."""

    async def close(self) -> None:
        """Commit pending appends, and close."""

    async def append(
        self,
        records: Sequence[Record],
        *,
        may_exist: bool = False,
        vectors: Mapping[str, GivenVector] | None = None,
        claims: Mapping[str, Claim] | None = None,
    ) -> int:
        """Write records durably, all or none; known ids are left unchanged, except that a new version of a record is
        an entry of its own. With `may_exist` every record is one: the table decides whether it is new. `vectors`: those
        that records come with, by id; they may be lost, and are computed then. `claims`, by id: a record whose claim is
        refused is left out. Returns the sequence number of the newest entry, also if all ids were known."""

    async def drop_claims(self, scopes: Iterable[str]) -> None:
        """Drop all claims to messages of these scopes, which may be sent again."""

    async def catch_up(self) -> None:
        """Take note of all entries that other processes have appended."""

    async def waiting(self, limit: int) -> list[JournalEntry]:
        """The oldest waiting entries that are due and not marked searchable, in order."""

    def mark_searchable(self, entries: Iterable[JournalEntry]) -> None:
        """Note that recall has entries: `waiting` gives those after them. They are marked stored or failed later."""

    async def next_due(self) -> float | None:
        """When the next failed entry is due; None if there is none."""

    async def position(self) -> tuple[int, int]:
        """The newest sequence number, and the oldest one that cannot be found (newest + 1 if all can)."""

    async def tombstones(self) -> list[Record]:
        """Deletions that are not stored and synced yet."""

    def mark_stored(self, entries: Iterable[JournalEntry]) -> None:
        """Note that entries were stored, though perhaps not durably."""

    async def mark_synced(self) -> None:
        """Acknowledge all entries that were marked stored before the table's `sync` began."""

    async def mark_failed(self, entries: Iterable[JournalEntry]) -> int:
        """Count a failed try of each and schedule the next one. Returns how many became dead letters."""

    async def retained(self, seqs: Collection[int] | None = None) -> list[JournalEntry]:
        """The newest done entries, which are retained for a while so that they can be stored again, or some of them."""

    async def retained_ids(self) -> dict[int, str]:
        """The ids of the records of the newest done entries by sequence number."""

    async def requeue(self, entries: Iterable[JournalEntry]) -> None:
        """Make done entries wait again, since the table has lost them."""

    async def unstored(self, before: int) -> list[JournalEntry]:
        """Entries up to a sequence number that are not stored: waiting, to be retried, or dead letters."""

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Drop entries that need not be stored any more."""

    async def purge(self, scopes: Iterable[str] = ()) -> None:
        """Erase the retained texts of these scopes, and all remains of deleted texts."""
