"""The registry in a SQLite file."""

from pathlib import Path

from gateway.storage.sql.registry import SqlRegistry
from gateway.storage.sqlite.database import Database

__all__ = ["MIGRATIONS", "SqliteRegistry"]

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS scopes (
    value TEXT PRIMARY KEY, tenant TEXT NOT NULL, cube_id TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS scopes_by_cube ON scopes (tenant, cube_id);
CREATE TABLE IF NOT EXISTS items (
    tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (tenant, kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    tenant TEXT NOT NULL, id TEXT NOT NULL, cube_id TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    kind TEXT NOT NULL, status TEXT NOT NULL, error TEXT NOT NULL, at REAL NOT NULL, content BLOB,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX IF NOT EXISTS files_by_cube ON files (tenant, cube_id, at);
CREATE TABLE IF NOT EXISTS tasks (
    tenant TEXT NOT NULL, id TEXT NOT NULL, user TEXT NOT NULL, cube_id TEXT NOT NULL, status TEXT NOT NULL,
    seq INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (tenant, user, id)
);
CREATE INDEX IF NOT EXISTS tasks_by_age ON tasks (at);
"""
MIGRATIONS = (_VERSION_1,)
"""The versions of the schema."""


class SqliteRegistry(SqlRegistry):
    """The registry in a file of its own, with a thread of its own."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        super().__init__(Database(path, "registry", MIGRATIONS, is_owner=is_owner), is_owner=is_owner)
