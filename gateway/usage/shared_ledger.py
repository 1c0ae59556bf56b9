"""The usage of all workers: each counts in RAM and writes into the same file, and the owner of the store reads it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from gateway.errors import MemoryUnavailable
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Ledger
from gateway.storage.values import UsageRow
from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["LocalLedger", "SharedLedger"]

_READ_TIMEOUT: Final = 1.0  # seconds that a report waits for the counts of the others
_FORGET_TIMEOUT: Final = 5.0

_log = logging.getLogger("gateway.usage")


class LocalLedger(Ledger, Protocol):
    """The ledger of one process."""

    async def flush(self) -> None:
        """Write the counts that are in RAM. Raises StorageError."""


class SharedLedger:
    """The ledger of one of several workers: before it is read or anonymised, the others write their counts.

    Construct it before the peers start.
    """

    def __init__(self, local: LocalLedger, peers: Peers) -> None:
        self._local = local
        self._peers = peers
        peers.on(message_kinds.USAGE_FLUSH, self._flush, is_slow=True)

    def note(self, used: UsageRow, *, tenant: str, key: str, user: str, model: str, upstream: str) -> None:
        """Add the usage of one request, in RAM only."""
        self._local.note(used, tenant=tenant, key=key, user=user, model=model, upstream=upstream)

    async def read(
        self, by: Sequence[str], *, tenant: str | None, since: float, until: float, only: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Sum the usage of all workers; without the latest of one that does not reply. Raises StorageError or
        ValueError."""
        await self._peers.ask_all(message_kinds.USAGE_FLUSH, None, _READ_TIMEOUT)
        return await self._local.read(by, tenant=tenant, since=since, until=until, only=only)

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Anonymise the usage of a user in all workers (None: of all users). Raises MemoryUnavailable or
        StorageError."""
        replies = await self._peers.require_all(message_kinds.USAGE_FLUSH, None, _FORGET_TIMEOUT)
        if not all(replies.values()):
            raise MemoryUnavailable("a worker cannot write its usage now; try again")
        await self._local.forget(tenant, user)

    async def _flush(self, _: None) -> bool:
        """Write the counts; False if they cannot be written."""
        try:
            await self._local.flush()
        except StorageError as error:
            _log.warning("usage_write_failed", extra={"cause": str(error)})
            return False
        return True
