"""The tables of a SQL database, for tests that run on both engines. The fixture `tables` chooses the engine."""

from pathlib import Path
from typing import Protocol

from gateway.storage.sql.blocks import SqlBlocks
from gateway.storage.sql.extraction_queue import SqlExtractionQueue
from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sql.owners import SqlOwners
from gateway.storage.sql.registry import SqlRegistry
from gateway.storage.sqlite.blocks import SqliteBlocks
from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.sqlite.ledger import SqliteLedger
from gateway.storage.sqlite.owners import SqliteOwners
from gateway.storage.sqlite.registry import SqliteRegistry

__all__ = ["SqliteTables", "Tables"]


class Tables(Protocol):
    """Builds each class on the same database again and again; the caller opens and closes it."""

    def registry(self, *, is_owner: bool = True) -> SqlRegistry: ...

    def blocks(self) -> SqlBlocks: ...

    def ledger(self) -> SqlLedger: ...

    def owners(self) -> SqlOwners: ...

    def extraction_queue(self, *, is_owner: bool = True) -> SqlExtractionQueue: ...


class SqliteTables:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def registry(self, *, is_owner: bool = True) -> SqlRegistry:
        return SqliteRegistry(self._folder / "registry.sqlite", is_owner=is_owner)

    def blocks(self) -> SqlBlocks:
        return SqliteBlocks(self._folder / "blocks.sqlite")

    def ledger(self) -> SqlLedger:
        return SqliteLedger(self._folder / "usage.sqlite")

    def owners(self) -> SqlOwners:
        return SqliteOwners(self._folder / "responses.sqlite")

    def extraction_queue(self, *, is_owner: bool = True) -> SqlExtractionQueue:
        return SqliteExtractionQueue(self._folder / "learning.sqlite", is_owner=is_owner)
