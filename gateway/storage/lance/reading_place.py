"""A folder whose tables another process of this machine writes, as a place to read them."""

import asyncio
from pathlib import Path
from typing import Any

from gateway.storage.errors import StorageError
from gateway.storage.lance.connection import connecting
from gateway.storage.lance.file_catalog import FileCatalog
from gateway.storage.lance.place import Bucket
from gateway.storage.rows import RowFormat

__all__ = ["ReadingPlace"]


class ReadingPlace:
    """The folder `lance` of a data folder whose lock another process has; see `Place`. Nothing is repaired or
    dropped."""

    is_lazy = False
    read_timeout: float | None = None
    write_timeout: float | None = None

    def __init__(self, folder: Path, catalog: FileCatalog) -> None:
        self._path = folder / "lance"
        self._catalog = catalog

    @property
    def repaired(self) -> list[str]:
        return []

    async def connect(self) -> Any:
        connect = await asyncio.to_thread(connecting, self._path, is_reader=True)
        return await connect()

    async def open(self, database: Any, buckets: int, first: RowFormat) -> dict[int, Bucket]:
        await self._catalog.refresh()
        return {number: Bucket(self._catalog.tables(number)) for number in range(buckets)}

    async def require(self) -> None:
        raise StorageError("store", "another process owns the folder")

    async def sync(self, since: float) -> None:
        """Does nothing: the process that writes does it."""

    async def probe(self) -> None:
        """Does nothing, as `sync`."""

    async def mark_whole(self, name: str, rows: int) -> None:
        """Does nothing, as `sync`."""
