"""The role of a gateway in a cluster: it follows the shared log, and stores what its buckets have to store."""

import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from gateway import bus_kinds
from gateway.concurrency.listeners import Listener
from gateway.config import Config
from gateway.errors import ConfigError, MemoryUnavailable
from gateway.roles.role import BuiltParts, LoadedParts
from gateway.storage.errors import StorageError
from gateway.storage.values import JournalEntry
from gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets
    from gateway.roles.replica import Replica

__all__ = ["ReplicaRole"]

_log = logging.getLogger("gateway.memory")


class ReplicaRole:
    """The role of a replica; its storage is shared with the others."""

    is_writer = True
    stores_all = False
    is_shared = True

    def __init__(self, config: Config, telemetry: Telemetry) -> None:
        self._memory = config.memory
        self._telemetry = telemetry
        try:
            from gateway.roles.replica_bus import build_bus  # noqa: PLC0415 — needs an extra
            from gateway.roles.replica_requests import ReplicaRequests as build_requests  # noqa: N813, PLC0415 — as above
            from gateway.storage.cluster_parts import build_cluster_storage  # noqa: PLC0415 — as above
        except ImportError as error:
            raise ConfigError(
                "memory.uri: a memory on S3 needs the extra `cluster`: pip install 'memory-gateway[cluster]'"
            ) from error
        self.storage = build_cluster_storage(config)
        self.bus = build_bus(self.storage, config.memory.lease_seconds)
        self._requests = build_requests(self.storage, self.bus)
        self.on_take_over: list[Listener[Collection[int]]] = []
        self._replica: Replica | None = None
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        return self._has_begun

    @asynccontextmanager
    async def change_lock(self, scopes: Collection[str]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.storage.scope_locks.holding(scopes))
            except StorageError as error:
                raise MemoryUnavailable(f"nothing was changed ({error}); try again") from error
            yield

    def connect(self, parts: BuiltParts) -> None:
        parts.on_change.append(parts.remember.forget_recent)
        self._on_change = parts.on_change
        registry = self.storage.registry
        registry.on_drop.append(lambda: self.bus.publish(bus_kinds.SCOPES_DROPPED, None))
        self.bus.on(bus_kinds.SCOPES_DROPPED, lambda _: registry.forget_cached())
        self.bus.on_gap.append(registry.forget_cached)

    def load(self, parts: LoadedParts) -> "WorkingSets":
        from gateway.roles.replica import Replica  # noqa: PLC0415 — imports numpy: after the port is open

        limits, recall = self._memory.limits, self._memory.recall
        self._retry = parts.retry
        self._replica = Replica(
            self.storage,
            parts.builder,
            self._telemetry,
            lease_seconds=self._memory.lease_seconds,
            flush_rows=limits.flush_rows,
            flush_seconds=limits.flush_seconds,
            on_stored=parts.on_stored,
            on_take_over=self.on_take_over,
            on_absence=self._note_absence,
        )
        return self._replica.load(
            max_rows=recall.working_set_rows, max_bytes=recall.working_set_mb * 2**20, on_change=self._on_change
        )

    async def start(self) -> None:
        assert self._replica is not None  # noqa: S101 — `load` was called
        await self._retry("journal", self._replica.start)
        self.bus.start()
        self._has_begun = True

    async def stop(self) -> None:
        await self.bus.stop()
        if self._replica is not None:
            await self._replica.stop()

    def note_append(self) -> None:
        """Does nothing: the entry waits for others of its bucket, and all replicas follow the log."""

    async def reached(self, seq: int, timeout: float) -> bool:
        return self._replica is not None and await self._replica.reached(seq, timeout)

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        if self._replica is None:
            return False
        try:
            return await self._replica.searchable(timeout, seq)
        except StorageError as error:
            _log.warning("journal_catch_up_failed", extra={"cause": str(error)})
            return False

    async def drained(self, timeout: float) -> bool:
        return self._replica is not None and await self._replica.settled(timeout)

    async def synced(self, timeout: float, scopes: Collection[str] | None = None) -> bool:
        """As `drained`: what is on object storage is durable."""
        return self._replica is not None and await self._replica.settled(timeout, scopes)

    async def purge(self, scopes: Collection[str]) -> None:
        await self._requests.purge(scopes)

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        await self._requests.discard(entries)

    def part_of(self, scope: str) -> int:
        return self.storage.bucket_of(scope)

    def owns(self, scope: str) -> bool:
        return self.storage.owns(scope)

    def _note_absence(self) -> None:
        """Drop what the others may have asked to be dropped while they took this replica for ended."""
        for callback in self.bus.on_gap:
            callback()

    def report(self) -> Mapping[str, Any]:
        replica = {} if self._replica is None else self._replica.report()
        return {"cluster": {"replica": self.storage.leases.owner, **replica}}
