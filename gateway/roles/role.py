"""The role of a process in a memory: it writes all of it, follows the process that does, or writes its share of it.

The engine and its barrier know this interface only. `folder_roles` has the roles on a data folder, `replica_role` that
in a cluster.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.bus import Bus
from gateway.concurrency.listeners import Listener
from gateway.prompt.pinned import PinnedBlocks
from gateway.remember.remember import Remember
from gateway.remember.row_builder import RowBuilder
from gateway.storage.protocols import Blocks, ExtractionQueue, MemoryTable, RecordLog, Registry
from gateway.storage.rows import Row, RowFormat
from gateway.storage.values import JournalEntry

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets

__all__ = ["BuiltParts", "LoadedParts", "MemoryRole", "Storage"]


class Storage(Protocol):
    """The storage of a memory. Call `build_store` first, then `prepare`, and open the parts."""

    @property
    def journal(self) -> RecordLog: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def blocks(self) -> Blocks: ...

    @property
    def parts(self) -> Sequence[tuple[str, Callable[[], Awaitable[object]]]]:
        """The names of the parts that recall cannot do without, with what opens them. It raises StorageError, may be
        called again then, and does nothing if the part is open."""

    def build_store(self, row_format: RowFormat) -> MemoryTable: ...

    def build_extraction_queue(self) -> ExtractionQueue: ...

    async def prepare(self, buckets: int) -> None:
        """Check the place. `buckets`: of a new memory. Raises FolderRefused, ConfigError or StorageError."""

    async def open_blocks(self) -> None:
        """Open the injected blocks, which recall can do without. Raises StorageError."""

    async def close(self) -> None:
        """Close the parts. Raises StorageError."""

    async def release(self) -> None:
        """Let other processes use the place; called at last."""

    def remove_damaged(self) -> None:
        """Delete what was moved aside as damaged. Blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltParts:
    """Parts of a memory, before it is loaded. `searchable` waits until the journal can be found, up to a number;
    `on_change` are called with scopes whose memories were changed."""

    remember: Remember
    blocks: PinnedBlocks
    searchable: Callable[[float, int | None], Awaitable[bool]]
    on_change: list[Listener[Collection[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedParts:
    """Heavy parts. `on_stored` is called with rows that this process has stored; `retry` repeats what raises
    StorageError until it succeeds, under the name of a part."""

    store: MemoryTable
    builder: RowBuilder
    on_stored: Callable[[Sequence[Row]], Awaitable[None]]
    retry: Callable[[str, Callable[[], Awaitable[object]]], Awaitable[None]]


LockChanges = Callable[[Collection[str]], AbstractAsyncContextManager[None]]
"""Keeps all processes from changing memories of these scopes. Raises MemoryUnavailable at its beginning."""


class MemoryRole(Protocol):
    """A role. Call `connect`, then `load`, then `start`."""

    @property
    def storage(self) -> Storage: ...

    @property
    def bus(self) -> Bus:
        """Messages to and from the other replicas of a cluster."""

    @property
    def is_writer(self) -> bool:
        """True if this process stores memories, and works on them in the background."""

    @property
    def change_lock(self) -> LockChanges | None:
        """What to hold while memories are changed; None if no other process changes any."""

    @property
    def stores_all(self) -> bool:
        """True if this process stores all memories, also those that others have written."""

    @property
    def on_take_over(self) -> list[Listener[Collection[int]]]:
        """Called with parts of the memory that this process works on from now on, after another one."""

    @property
    def has_begun(self) -> bool:
        """True if `searchable` and `drained` can be answered."""

    @property
    def is_shared(self) -> bool:
        """True if other processes append to the journal."""

    def connect(self, parts: BuiltParts) -> None:
        """Connect the memory with those of other processes."""

    def load(self, parts: LoadedParts) -> "WorkingSets":
        """Build the working sets, and what keeps them current."""

    async def start(self) -> None:
        """Start the workers; returns when recall has what was written before."""

    async def stop(self) -> None: ...

    def note_append(self) -> None:
        """This process has appended to the journal."""

    async def reached(self, seq: int, timeout: float) -> bool:
        """Wait until the journal can be found up to a number that this process has written. False after the
        timeout."""

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until the journal can be found up to a number (None: all of it). False after the timeout."""

    async def drained(self, timeout: float) -> bool:
        """Wait until the table has all of the journal. False after the timeout."""

    async def synced(self, timeout: float, scopes: Collection[str] | None = None) -> bool:
        """Wait until the table has all of the journal on the disk, of these scopes at least (None: of all). False after
        the timeout."""

    async def purge(self, scopes: Collection[str]) -> None:
        """Erase deleted rows of these scopes for good. Raises StorageError or MemoryUnavailable."""

    async def discard(self, entries: Sequence[JournalEntry]) -> None:
        """Drop entries of the journal that need not be stored. Raises StorageError or MemoryUnavailable."""

    def part_of(self, scope: str) -> int:
        """The part of the memory that a scope is in."""

    def owns(self, scope: str) -> bool:
        """True if this process does now what is to be done for a scope in the background."""

    def report(self) -> Mapping[str, Any]:
        """The state of the role, for `/ready`."""
