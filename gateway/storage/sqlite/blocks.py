"""Injected memory blocks, kept for a day so that later turns repeat them byte for byte. SQLite, one file.

A lost block costs one miss of a provider's prompt cache, nothing else.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import orjson

from gateway.storage.sqlite.database import Database
from gateway.storage.values import KeptBlock

__all__ = ["SqliteBlocks"]

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS blocks (
    scope TEXT NOT NULL, session TEXT NOT NULL, turn TEXT NOT NULL, at REAL NOT NULL, memories BLOB NOT NULL,
    tokens INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (scope, session, turn)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blocks_by_age ON blocks (at);
"""
_MIGRATIONS = (_VERSION_1,)
_TTL = 86_400.0  # seconds: longer than any provider caches a prompt, and texts of deleted memories expire in time
_MAX_BLOCKS_PER_SESSION = 256
_SWEEP_INTERVAL = 600.0


class SqliteBlocks:
    """Table of injected blocks by scope, session and turn. Runs in a thread of its own. Raises StorageError."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        self._database = Database(path, "blocks", _MIGRATIONS, is_owner=is_owner)
        self._swept_at = 0.0

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def of(self, scope: str, session: str) -> dict[str, KeptBlock]:
        """The blocks of a conversation by turn, the oldest first."""
        rows = await self._database.read(
            "SELECT turn, text, tokens, memories FROM blocks WHERE scope=? AND session=? AND at>? "
            "ORDER BY at DESC LIMIT ?",
            (scope, session, time.time() - _TTL, _MAX_BLOCKS_PER_SESSION),
        )
        return {
            turn: KeptBlock(text, tokens, orjson.loads(memories)) for turn, text, tokens, memories in reversed(rows)
        }

    async def put(self, scope: str, session: str, turn: str, block: KeptBlock) -> None:
        now = time.time()
        row = (scope, session, turn, now, orjson.dumps(block.memories), block.tokens, block.text)
        await self._database.write("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", [row])
        if not 0 <= now - self._swept_at < _SWEEP_INTERVAL:
            self._swept_at = now
            await self._database.write("DELETE FROM blocks WHERE at<?", [(now - _TTL,)])

    async def drop(self, scope: str, session: str, turns: Iterable[str]) -> None:
        rows = [(scope, session, turn) for turn in turns]
        await self._database.write("DELETE FROM blocks WHERE scope=? AND session=? AND turn=?", rows)

    async def purge(self, scopes: Iterable[str]) -> None:
        """Erase all blocks of these scopes, from the file and from the disk."""
        await self._database.write("DELETE FROM blocks WHERE scope=?", [(scope,) for scope in scopes])
        await self._database.scrub()
