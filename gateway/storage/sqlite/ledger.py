"""The usage ledger in a SQLite file."""

import sqlite3
from pathlib import Path

from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.sqlite.database import Database

__all__ = ["MIGRATIONS", "SqliteLedger"]

_TABLE = """
CREATE TABLE IF NOT EXISTS used (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, model TEXT NOT NULL,
    upstream TEXT NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, estimated_tokens INTEGER NOT NULL, cost REAL NOT NULL, priced INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, key, user, model, upstream)
) WITHOUT ROWID;
"""
_LATER_COLUMNS = ("cost REAL NOT NULL DEFAULT 0", "priced INTEGER NOT NULL DEFAULT 0")  # absent in the oldest files


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    present = {row[1] for row in connection.execute("PRAGMA table_info(used)")}
    for column in _LATER_COLUMNS:
        if column.split()[0] not in present:
            connection.execute(f"ALTER TABLE used ADD COLUMN {column}")


MIGRATIONS = (_create,)
"""The versions of the schema."""


class SqliteLedger(SqlLedger):
    """The ledger in a file of its own, with a thread of its own."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        super().__init__(Database(path, "usage", MIGRATIONS, is_owner=is_owner))
