"""The parts of the storage that have tables in PostgreSQL: each with a connection of its own, so that none waits for
another one."""

from contextlib import AbstractAsyncContextManager

from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.sql.blocks import SqlBlocks
from gateway.storage.sql.extraction_queue import SqlExtractionQueue
from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sql.owners import SqlOwners
from gateway.storage.sql.registry import SqlRegistry

__all__ = ["build_blocks", "build_extraction_queue", "build_ledger", "build_owners", "build_registry"]


def build_registry(
    url: str, *, is_owner: bool = True, changing: AbstractAsyncContextManager[None] | None = None
) -> SqlRegistry:
    return SqlRegistry(PostgresDatabase(url, "registry"), is_owner=is_owner, changing=changing)


def build_blocks(url: str) -> SqlBlocks:
    return SqlBlocks(PostgresDatabase(url, "blocks"))


def build_ledger(url: str) -> SqlLedger:
    return SqlLedger(PostgresDatabase(url, "usage"))


def build_owners(url: str) -> SqlOwners:
    return SqlOwners(PostgresDatabase(url, "responses"))


def build_extraction_queue(url: str, *, is_owner: bool = True) -> SqlExtractionQueue:
    return SqlExtractionQueue(PostgresDatabase(url, "learning"), is_owner=is_owner)
