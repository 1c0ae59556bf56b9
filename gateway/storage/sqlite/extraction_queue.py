"""The extraction queue in a SQLite file."""

from pathlib import Path

from gateway.storage.sql.extraction_queue import SqlExtractionQueue
from gateway.storage.sqlite.database import Database

__all__ = ["MIGRATIONS", "SqliteExtractionQueue"]

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, scope TEXT NOT NULL, session TEXT NOT NULL, id TEXT NOT NULL, tokens INTEGER NOT NULL,
    aside INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_conversation ON messages (scope, session, aside, seq);
CREATE TABLE IF NOT EXISTS conversations (
    scope TEXT NOT NULL, session TEXT NOT NULL, due REAL NOT NULL, tries INTEGER NOT NULL, reason TEXT NOT NULL,
    before TEXT NOT NULL, PRIMARY KEY (scope, session)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS conversations_by_due ON conversations (due);
CREATE TABLE IF NOT EXISTS spent (
    scope TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, cost REAL NOT NULL, PRIMARY KEY (scope, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
MIGRATIONS = (_VERSION_1,)
"""The versions of the schema."""


class SqliteExtractionQueue(SqlExtractionQueue):
    """The queue in a file of its own, with a thread of its own."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        super().__init__(Database(path, "learning", MIGRATIONS, is_owner=is_owner), is_owner=is_owner)
