"""The files beside the memory: usage, owners of stored responses, plugins' counters. Chats do not depend on them."""

import contextlib
import logging
from pathlib import Path

from gateway.errors import MemoryUnavailable
from gateway.maintenance.forget import Forgetter
from gateway.server.shared_owners import SharedOwners
from gateway.storage.counters import SharedCounters
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Ledger, Owners
from gateway.storage.sqlite.counters import SqliteCounters
from gateway.storage.sqlite.ledger import SqliteLedger
from gateway.storage.sqlite.owners import SqliteOwners
from gateway.usage.shared_ledger import SharedLedger
from gateway.workers.peers import Peers

__all__ = ["SideFiles"]

_log = logging.getLogger("gateway.app")


class SideFiles:
    """The files in `folder`, as one of the workers uses them.

    `ledger` counts the usage of this process, and `usage` reads that of all (both None: usage is not counted). `owners`
    are those of the responses of all workers; `counters` count for all.
    """

    def __init__(self, folder: Path, peers: Peers, *, counts_usage: bool) -> None:
        self.ledger = SqliteLedger(folder / "usage.sqlite", is_owner=peers.is_owner) if counts_usage else None
        self.usage: Ledger | None = self.ledger
        self._owners = SqliteOwners(folder / "responses.sqlite", is_owner=peers.is_owner)
        self.owners: Owners = self._owners
        if peers.is_shared:
            self.usage = None if self.ledger is None else SharedLedger(self.ledger, peers)
            self.owners = SharedOwners(self._owners, peers)
        counters = SqliteCounters(folder / "counters.sqlite", is_owner=peers.is_owner)
        self.counters = SharedCounters(counters, is_shared=peers.is_shared)

    async def open(self, forgetter: Forgetter) -> None:
        """Open the ledger and the owners; a failure is logged. `forgetter` erases users from them."""
        forgetter.on_owner.append(self._forget_owners)
        if self.ledger is not None:
            forgetter.on_owner.append(self._forget_usage)
            try:
                await self.ledger.open()
            except StorageError as error:
                _log.error("ledger_failed", extra={"cause": str(error)})
        try:
            await self._owners.open()
        except StorageError as error:  # they are then kept in RAM only
            _log.error("response_owners_failed", extra={"cause": str(error)})

    async def close(self) -> None:
        with contextlib.suppress(StorageError):
            await self._owners.close()
        with contextlib.suppress(StorageError):
            if self.ledger is not None:
                await self.ledger.close()

    async def _forget_owners(self, tenant: str | None, user: str | None) -> None:
        """Raises MemoryUnavailable."""
        try:
            await self.owners.forget(tenant, user)
        except StorageError as error:
            raise MemoryUnavailable(f"owners of responses still name the user ({error}); try again") from error

    async def _forget_usage(self, tenant: str | None, user: str | None) -> None:
        """Raises MemoryUnavailable."""
        assert self.usage is not None  # noqa: S101 — registered only if there is a ledger
        try:
            await self.usage.forget(tenant, user)
        except StorageError as error:
            raise MemoryUnavailable(f"the ledger still names the user ({error}); try again") from error
