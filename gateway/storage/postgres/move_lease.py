"""What keeps a move from a cluster and the gateways of that cluster apart: a lease that is renewed while it lasts."""

import asyncio
import contextlib
from typing import Any, Final

from gateway.storage.bucket_numbers import LEADER, MOVE
from gateway.storage.errors import StorageError
from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.postgres.leases import Leases

__all__ = ["MoveLease", "count_gateways"]


class MoveLease:
    """The lease of a move from a cluster. Gateways do not start while it is held; see `find_move` of `probe`."""

    SECONDS: Final = 10.0
    """How long it lasts after its owner was killed."""

    def __init__(self, url: str, database: PostgresDatabase) -> None:
        self._leases = Leases(url, seconds=self.SECONDS)
        self._database = database
        self._renewing: asyncio.Task[None] | None = None
        self._epochs = 0

    async def acquire(self) -> bool:
        """Take it. False if another move has it. Raises StorageError."""
        await self._leases.open()
        if not await self._leases.acquire([MOVE]):
            return False
        self._renewing = asyncio.create_task(self._renew(), name="move-lease")
        self._epochs = await self._sum_epochs()
        return True

    async def require_alone(self) -> None:
        """Raise StorageError if the lease was lost, or a gateway has owned something since."""
        if MOVE not in self._leases.held():
            raise StorageError("journal", "the database was away for too long: run the move again", is_outage=True)
        if await count_gateways(self._database) or await self._sum_epochs() != self._epochs:
            raise StorageError("journal", "a gateway was started meanwhile: stop it, and run the move again")

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing], timeout=5)
        await self._leases.close()

    async def _sum_epochs(self) -> int:
        """A number that grows with each bucket that a gateway takes, and with the lease of the leader."""
        rows: list[tuple[Any, ...]] = await self._database.read(
            "SELECT CAST(coalesce(sum(epoch), 0) AS BIGINT) FROM leases WHERE bucket>=?", (LEADER,)
        )
        return int(rows[0][0])

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.SECONDS * 0.3)
            with contextlib.suppress(StorageError):  # `require_alone` notices
                await self._leases.renew()


async def count_gateways(database: PostgresDatabase) -> int:
    """The number of gateways that run, or were killed within the length of a lease. Raises StorageError."""
    statement = "SELECT count(DISTINCT owner) FROM leases WHERE until>=now_seconds() AND bucket<>?"
    return int((await database.read(statement, (MOVE,)))[0][0])
