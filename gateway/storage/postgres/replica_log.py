"""The shared log as a replica reads it: it follows new entries, and looks up what no table has yet."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

from gateway.memory.record import Record
from gateway.storage.postgres.feed import Feed, Followed
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.values import JournalEntry, ScopeSize

__all__ = ["ReplicaLog"]


class ReplicaLog:
    """Reads a shared log, which others open and close. Every method raises StorageError."""

    def __init__(self, log: SharedLog, feed: Feed) -> None:
        self._log = log
        self._feed = feed

    def follow(self, after: int, wanted: Callable[[Collection[str]], Collection[str]]) -> AsyncIterator[Followed]:
        """New entries after a number, in order, and at least every half second, also if there are none. Ends with an
        error if the log cannot be read."""
        return self._feed.follow(after, wanted)

    async def unstored_of(self, scope: str) -> Sequence[JournalEntry]:
        """The entries of a scope that no table has yet."""
        return (await self._log.tail(scope)).entries

    async def unstored_records(self, memory_ids: Sequence[str]) -> Sequence[Record]:
        """The records of these ids that no table has yet, all versions of each."""
        return await self._log.unstored_records(memory_ids)

    async def unstored_sizes(self, scopes: Collection[str]) -> Mapping[str, ScopeSize]:
        """The numbers of new memories in these scopes that no table has yet."""
        return await self._log.unstored_sizes(scopes)

    async def is_drained(self, before: int, scopes: Collection[str] | None = None) -> bool:
        """True if all entries of these scopes (None: of all) up to a number are stored, but those that failed, and wait
        for a retry."""
        return await self._log.is_drained(before, scopes)

    async def request_flush(self, seq: int) -> None:
        """Ask all replicas to store entries up to a number soon."""
        await self._log.request_flush(seq)

    async def flush_requested(self) -> int:
        """The number up to which entries are to be stored soon."""
        return await self._log.flush_requested()
