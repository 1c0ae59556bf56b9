"""The files beside the memory: usage, owners of stored responses, plugins' counters. Chats do not depend on them."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Protocol

from gateway.api.memos.chat import Replays
from gateway.bus import Bus
from gateway.config import Config
from gateway.errors import MemoryUnavailable
from gateway.maintenance.forget import Forgetter
from gateway.replicated_files import ReplicatedLedger, ReplicatedOwners
from gateway.server.shared_owners import SharedOwners
from gateway.server.shared_sessions import Openings
from gateway.storage.counters import Counters, SharedCounters
from gateway.storage.errors import StorageError
from gateway.storage.local_file import LocalFile
from gateway.storage.protocols import Ledger, Owners, SmallFile
from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sql.owners import SqlOwners
from gateway.storage.sqlite.counters import SqliteCounters
from gateway.storage.sqlite.ledger import SqliteLedger
from gateway.storage.sqlite.owners import SqliteOwners
from gateway.usage.shared_ledger import SharedLedger
from gateway.workers.peers import Peers

__all__ = ["SideFiles"]

_log = logging.getLogger("gateway.app")


class ClosableOpenings(Openings, Protocol):
    """Names of conversations in a table that has a connection."""

    async def close(self) -> None: ...


class ClosableReplays(Replays, Protocol):
    """Answers in a table that has a connection."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The implementations for a process. `ledger` None: usage is not counted."""

    ledger: SqlLedger | None
    owners: SqlOwners
    counters: Counters
    identities: SmallFile
    openings: ClosableOpenings | None = None
    replays: ClosableReplays | None = None


class SideFiles:
    """The files of a process. `ledger` counts the usage of this process (None: it is not counted), and `usage` reads
    that of all; `owners` knows the responses of all, `counters` count for all, `identities` are those of keys, and
    `openings` and `replays` are those of a cluster."""

    def __init__(self, config: Config, peers: Peers, bus: Bus) -> None:
        parts = _build_cluster_parts(config) if config.memory.is_cluster else _build_folder_parts(config, peers)
        self.ledger = parts.ledger
        self.usage: Ledger | None = self.ledger
        self._owners = parts.owners
        self.owners: Owners = self._owners
        self.identities = parts.identities
        self.openings, self.replays = parts.openings, parts.replays
        is_shared = peers.is_shared or config.memory.is_cluster
        if peers.is_shared:
            self.usage = None if self.ledger is None else SharedLedger(self.ledger, peers)
            self.owners = SharedOwners(self._owners, peers)
        elif config.memory.is_cluster:
            self.usage = None if self.ledger is None else ReplicatedLedger(self.ledger, bus)
            self.owners = ReplicatedOwners(self._owners, bus)
        self.counters = SharedCounters(parts.counters, is_shared=is_shared)

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
        for table in (self.openings, self.replays):
            if table is not None:
                await table.close()
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


def _build_folder_parts(config: Config, peers: Peers) -> _Parts:
    folder, is_owner = config.data_folder, peers.is_owner
    return _Parts(
        ledger=SqliteLedger(folder / "usage.sqlite", is_owner=is_owner) if config.usage.enabled else None,
        owners=SqliteOwners(folder / "responses.sqlite", is_owner=is_owner),
        counters=SqliteCounters(folder / "counters.sqlite", is_owner=is_owner),
        identities=LocalFile(folder / "identities.json"),
    )


def _build_cluster_parts(config: Config) -> _Parts:
    from gateway.storage import cluster_parts  # noqa: PLC0415 — needs an extra

    return _Parts(
        ledger=cluster_parts.build_cluster_ledger(config) if config.usage.enabled else None,
        owners=cluster_parts.build_cluster_owners(config),
        counters=cluster_parts.build_cluster_counters(config),
        identities=cluster_parts.build_cluster_document(config, "identities"),
        openings=cluster_parts.build_cluster_openings(config),
        replays=cluster_parts.build_cluster_replays(config),
    )
