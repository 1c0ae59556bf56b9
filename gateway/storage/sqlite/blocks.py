"""Injected memory blocks in a SQLite file."""

from pathlib import Path

from gateway.storage.sql.blocks import SqlBlocks
from gateway.storage.sqlite.database import Database

__all__ = ["MIGRATIONS", "SqliteBlocks"]

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS blocks (
    scope TEXT NOT NULL, session TEXT NOT NULL, turn TEXT NOT NULL, at REAL NOT NULL, memories BLOB NOT NULL,
    tokens INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (scope, session, turn)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blocks_by_age ON blocks (at);
"""
MIGRATIONS = (_VERSION_1,)
"""The versions of the schema."""


class SqliteBlocks(SqlBlocks):
    """Injected blocks in a file of their own, with a thread of their own."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        super().__init__(Database(path, "blocks", MIGRATIONS, is_owner=is_owner))
