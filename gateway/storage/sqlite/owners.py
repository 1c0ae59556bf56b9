"""Owners of what upstreams store, in a SQLite file."""

from pathlib import Path

from gateway.storage.sql.owners import SqlOwners
from gateway.storage.sqlite.database import Database

__all__ = ["MIGRATIONS", "SqliteOwners"]

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS owners (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT, upstream TEXT NOT NULL, session TEXT, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS owners_by_age ON owners (at);
"""
MIGRATIONS = (_VERSION_1,)
"""The versions of the schema."""


class SqliteOwners(SqlOwners):
    """Owners in a file of their own, with a thread of their own."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        super().__init__(Database(path, "responses", MIGRATIONS, is_owner=is_owner), is_owner=is_owner)
