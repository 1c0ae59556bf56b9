"""The roles on a data folder: the process that writes it, alone or as the first of several workers, and the others."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.bus import Bus
from gateway.concurrency.listeners import Listener
from gateway.config import Config
from gateway.errors import MemoryUnavailable
from gateway.maintenance.recovery import recover
from gateway.remember.writer import Writer
from gateway.roles.role import BuiltParts, LoadedParts
from gateway.roles.sharing import FollowerLink, OwnerLink, share_blocks
from gateway.storage.errors import StorageError
from gateway.storage.folder_storage import FolderStorage
from gateway.storage.sqlite.database import Sharing
from gateway.storage.values import JournalEntry
from gateway.telemetry import Telemetry
from gateway.workers.peers import Peers

if TYPE_CHECKING:
    from gateway.recall.shared_sets import FollowerSets, OwnersSets
    from gateway.recall.working_sets import WorkingSets

    _Sets = TypeVar("_Sets", bound=WorkingSets)

__all__ = ["FollowerRole", "OwnerRole"]

_log = logging.getLogger("gateway.memory")
_FIRST_SNAPSHOT_TIMEOUT: Final = 30.0  # seconds that other workers wait for entries of earlier processes


class OwnerRole:
    """The role of the process that writes the folder."""

    is_writer = True
    stores_all = True
    change_lock = None

    def __init__(self, config: Config, telemetry: Telemetry, peers: Peers) -> None:
        self._config = config
        self._telemetry = telemetry
        self._peers = peers
        sharing = Sharing.OWNER if peers.is_shared else Sharing.NONE
        self.storage = _build_storage(config, sharing, self.note_append)
        self.bus = Bus()
        self.on_take_over: list[Listener[Collection[int]]] = []
        self.is_shared = peers.is_shared
        self._writer: Writer | None = None
        self._sets: WorkingSets | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._link: OwnerLink | None = None

    @property
    def has_begun(self) -> bool:
        return self._writer is not None

    def connect(self, parts: BuiltParts) -> None:
        if not self.is_shared:
            return
        share_blocks(self._peers, parts.blocks)
        self._link = OwnerLink(self._peers, self.storage, parts.searchable)
        parts.on_change.append(self._link.publish_changes)

    def load(self, parts: LoadedParts) -> "WorkingSets":
        from gateway.recall.shared_sets import OwnersSets  # noqa: PLC0415 — imports numpy: after the port is open
        from gateway.recall.working_sets import WorkingSets  # noqa: PLC0415 — as above

        sets = self._sets = _build_sets(
            OwnersSets if self.is_shared else WorkingSets, self._config, parts, self._telemetry
        )
        if isinstance(sets, OwnersSets):
            sets.share(self._peers)
        limits = self._config.memory.limits
        self._parts = parts
        self._writer = Writer(
            self.storage.journal,
            parts.store,
            parts.builder,
            sets,
            self._telemetry,
            on_stored=parts.on_stored,
            batch_window=limits.flush_seconds,
            batch_rows=limits.flush_rows,
        )
        return sets

    async def start(self) -> None:
        from gateway.recall.shared_sets import OwnersSets  # noqa: PLC0415 — as above

        assert self._writer is not None and self._sets is not None  # noqa: S101, PT018 — `load` was called
        journal, store = self.storage.journal, self._parts.store
        await self._parts.retry("store", lambda: recover(journal, store))
        await self._sets.mark_deleted(await journal.tombstones())
        await self._writer.start()
        if isinstance(self._sets, OwnersSets):
            self._publishing = asyncio.create_task(_publish_snapshot(self._writer, self._sets), name="first-snapshot")

    async def stop(self) -> None:
        if self._writer is not None:
            await self._writer.stop()
        if self._link is not None:
            await self._link.stop()

    def note_append(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    async def reached(self, seq: int, timeout: float) -> bool:
        return self._writer is not None and await self._writer.searchable(timeout, seq)

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        if self._writer is None:
            return False
        await self._catch_up()
        return await self._writer.searchable(timeout, seq)

    async def drained(self, timeout: float) -> bool:
        if self._writer is None:
            return False
        await self._catch_up()
        return await self._writer.drained(timeout)

    async def synced(self, timeout: float, scopes: Collection[str] | None = None) -> bool:
        return await self.drained(timeout) and self._writer is not None and await self._writer.synced(timeout)

    async def purge(self, scopes: Collection[str]) -> None:
        await self._parts.store.purge(scopes)

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        await self.storage.journal.discard(entries)

    def part_of(self, scope: str) -> int:
        return 0

    def owns(self, scope: str) -> bool:
        return True

    def report(self) -> Mapping[str, Any]:
        return {}

    async def _catch_up(self) -> None:
        """Take note of what other workers have written."""
        try:
            await self.storage.journal.catch_up()
        except StorageError as error:
            _log.warning("journal_catch_up_failed", extra={"cause": str(error)})


class FollowerRole:
    """The role of a worker that does not own the store: what it appends is stored by another one."""

    is_writer = False
    stores_all = False
    change_lock = None
    has_begun = True
    is_shared = True

    def __init__(self, config: Config, telemetry: Telemetry, peers: Peers) -> None:
        self._config = config
        self._telemetry = telemetry
        self._peers = peers
        self.storage = _build_storage(config, Sharing.FOLLOWER, self.note_append)
        self.bus = Bus()
        self.on_take_over: list[Listener[Collection[int]]] = []
        self._link: FollowerLink | None = None
        self._replica: FollowerSets | None = None
        self._is_complete = asyncio.Event()

    def connect(self, parts: BuiltParts) -> None:
        share_blocks(self._peers, parts.blocks)
        parts.on_change.append(parts.remember.forget_recent)
        self._link = FollowerLink(self._peers, self.storage, parts.on_change)

    def load(self, parts: LoadedParts) -> "WorkingSets":
        from gateway.recall.shared_sets import FollowerSets  # noqa: PLC0415 — as above
        from gateway.recall.working_sets import WorkingSets  # noqa: PLC0415

        sets = _build_sets(WorkingSets, self._config, parts, self._telemetry)
        self._replica = FollowerSets(self._peers, sets, self._is_complete.set)
        return sets

    async def start(self) -> None:
        assert self._link is not None and self._replica is not None  # noqa: S101, PT018 — `load` was called
        self._replica.start()
        self._link.start()
        await self._is_complete.wait()

    async def stop(self) -> None:
        if self._link is not None:
            await self._link.stop()
        if self._replica is not None:
            await self._replica.stop()

    def note_append(self) -> None:
        if self._link is not None:
            self._link.note_append()

    async def reached(self, seq: int, timeout: float) -> bool:
        return await self.searchable(timeout, seq)

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        return self._link is not None and await self._link.searchable(timeout, seq)

    async def drained(self, timeout: float) -> bool:
        """False: the owner knows, and it answers all that needs to be known."""
        return False

    async def synced(self, timeout: float, scopes: Collection[str] | None = None) -> bool:
        return False

    async def purge(self, scopes: Collection[str]) -> None:
        """Raises MemoryUnavailable: the owner does it."""
        raise MemoryUnavailable("another process stores the memories")

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Raises MemoryUnavailable, as `purge`."""
        raise MemoryUnavailable("another process stores the memories")

    def part_of(self, scope: str) -> int:
        return 0

    def owns(self, scope: str) -> bool:
        return False

    def report(self) -> Mapping[str, Any]:
        return {}


def _build_storage(config: Config, sharing: Sharing, on_append: Callable[[], None]) -> FolderStorage:
    memory = config.memory
    return FolderStorage(
        config.data_folder,
        sharing=sharing,
        max_backlog=memory.remember.max_backlog_mb * 2**20,
        compact_fragments=memory.limits.compact_fragments,
        on_append=on_append,
    )


def _build_sets(kind: "type[_Sets]", config: Config, parts: LoadedParts, telemetry: Telemetry) -> "_Sets":
    recall = config.memory.recall
    return kind(parts.store, telemetry, max_rows=recall.working_set_rows, max_bytes=recall.working_set_mb * 2**20)


async def _publish_snapshot(writer: Writer, sets: "OwnersSets") -> None:
    """Let the other workers start from what this one has, once it has the entries of earlier processes."""
    await writer.searchable(_FIRST_SNAPSHOT_TIMEOUT)
    sets.publish_snapshot()
