"""The storage of one machine: SQLite files and LanceDB tables in a data folder."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gateway.storage.folder import DataFolder, remove_damaged_files
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import RowFormat
from gateway.storage.sqlite.blocks import SqliteBlocks
from gateway.storage.sqlite.database import Sharing
from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.registry import SqliteRegistry

__all__ = ["FolderStorage"]


class FolderStorage:
    """The parts in `folder`. `on_append` is called when this process has appended to the journal. Call `build_store`
    first, then `prepare`."""

    def __init__(
        self,
        folder: Path,
        *,
        sharing: Sharing,
        max_backlog: int,
        compact_fragments: int,
        on_append: Callable[[], None],
    ) -> None:
        is_owner = sharing is not Sharing.FOLLOWER
        self._data = DataFolder(folder)
        self._is_shared = sharing is not Sharing.NONE
        self._is_reader = not is_owner
        self._compact_fragments = compact_fragments
        self.journal = Journal(folder / "journal.sqlite", max_backlog, on_append, sharing=sharing)
        self.registry = SqliteRegistry(folder / "registry.sqlite", is_owner=is_owner)
        self.blocks = SqliteBlocks(folder / "blocks.sqlite", is_owner=is_owner)

    @property
    def parts(self) -> Sequence[tuple[str, Callable[[], Awaitable[object]]]]:
        """The parts that recall cannot do without, with what opens them."""
        return (("journal", self.journal.open), ("registry", self.registry.open))

    def build_store(self, row_format: RowFormat) -> MemoryStore:
        self._row_format = row_format
        return MemoryStore(self._data, row_format, is_reader=self._is_reader, compact_fragments=self._compact_fragments)

    def build_extraction_queue(self) -> SqliteExtractionQueue:
        return SqliteExtractionQueue(self._data.path / "learning.sqlite")

    async def prepare(self, buckets: int) -> None:
        """Lock and describe the folder. Raises FolderRefused."""
        settings = buckets, self._row_format.embedder, self._row_format.dimensions
        await asyncio.to_thread(self._data.open, *settings, is_locked=self._is_shared)

    async def open_blocks(self) -> None:
        """Raises StorageError."""
        await self.blocks.open()

    async def close(self) -> None:
        """Raises StorageError."""
        await self.journal.close()
        await self.registry.close()
        await self.blocks.close()

    async def release(self) -> None:
        """Release the lock of the folder."""
        self._data.close()

    def remove_damaged(self) -> None:
        """Delete what was moved aside as damaged. Blocks."""
        remove_damaged_files(self._data.path)
