"""The tables of a PostgreSQL database, for tests that run on both engines."""

from gateway.storage.postgres import parts
from gateway.storage.sql.blocks import SqlBlocks
from gateway.storage.sql.extraction_queue import SqlExtractionQueue
from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sql.owners import SqlOwners
from gateway.storage.sql.registry import SqlRegistry

__all__ = ["PostgresTables"]


class PostgresTables:
    """Tables in one database."""

    def __init__(self, url: str) -> None:
        self._url = url

    def registry(self, *, is_owner: bool = True) -> SqlRegistry:
        return parts.build_registry(self._url, is_owner=is_owner)

    def blocks(self) -> SqlBlocks:
        return parts.build_blocks(self._url)

    def ledger(self) -> SqlLedger:
        return parts.build_ledger(self._url)

    def owners(self) -> SqlOwners:
        return parts.build_owners(self._url)

    def extraction_queue(self, *, is_owner: bool = True) -> SqlExtractionQueue:
        return parts.build_extraction_queue(self._url, is_owner=is_owner)
