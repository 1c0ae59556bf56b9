"""The shared log in PostgreSQL, for one gateway that holds all leases or for several."""

from collections.abc import Callable

from gateway.storage.postgres.journal import PostgresJournal
from gateway.storage.postgres.leases import Leases
from gateway.storage.postgres.shared_log import SharedLog
from gateway.storage.protocols import RecordLog

__all__ = ["BUCKETS", "PostgresLogs", "bucket_of"]

BUCKETS = 4


def bucket_of(scope: str) -> int:
    return int(scope[:8], 16) % BUCKETS


class LeasedJournal(PostgresJournal):
    """A journal that takes all leases when it is opened, and gives them up when it is closed."""

    def __init__(self, url: str, max_bytes: int, on_append: Callable[[], None]) -> None:
        self._leases = Leases(url, seconds=3600)
        super().__init__(
            SharedLog(url, bucket_of), bucket_of, self._leases.held, max_bytes=max_bytes, on_append=on_append
        )

    async def open(self) -> None:
        await self._leases.open()
        await self._leases.acquire(range(BUCKETS))
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._leases.close()


class PostgresLogs:
    """The log of one database."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self, max_bytes: int = 10**9, on_append: Callable[[], None] = lambda: None) -> RecordLog:
        journal = LeasedJournal(self._url, max_bytes, on_append)
        await journal.open()
        return journal
