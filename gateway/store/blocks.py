"""Blocks of memories as they were injected, so that they can be injected again: SQLite, one file, a day at most.

What is lost here costs a provider's prompt cache once, nothing else.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.store.sqlite_file import SqliteFile

__all__ = ["Blocks", "BlocksFailed", "KeptBlock"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    scope TEXT NOT NULL, session TEXT NOT NULL, turn TEXT NOT NULL, at REAL NOT NULL, memories BLOB NOT NULL,
    tokens INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (scope, session, turn)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blocks_by_age ON blocks (at);
"""
_KEPT_FOR = 86_400.0  # seconds: longer than any provider keeps a prompt, and what was deleted leaves in time
_OF_A_SESSION = 256
_BETWEEN_SWEEPS = 600.0


class BlocksFailed(Exception):
    """Nothing was written or read: the disk is full, or the file is broken."""


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """The text that was injected, its tokens, and the memories in it with the version of each."""

    text: str
    tokens: int
    memories: dict[str, int]


class Blocks:
    """Everything runs in a thread of its own. Raises BlocksFailed."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "blocks", BlocksFailed)
        self._swept_at = 0.0

    async def open(self) -> None:
        if not self._file.is_open:
            await self._file.open()

    async def close(self) -> None:
        await self._file.close()

    async def of(self, scope: str, session: str) -> dict[str, KeptBlock]:
        """The blocks of a conversation by turn, the oldest first."""
        rows = await self._file.run(
            lambda: self._file.connection.execute(
                "SELECT turn, text, tokens, memories FROM blocks WHERE scope=? AND session=? AND at>? "
                "ORDER BY at DESC LIMIT ?",
                (scope, session, time.time() - _KEPT_FOR, _OF_A_SESSION),
            ).fetchall()
        )
        return {
            turn: KeptBlock(text, tokens, orjson.loads(memories)) for turn, text, tokens, memories in reversed(rows)
        }

    async def put(self, scope: str, session: str, turn: str, block: KeptBlock) -> None:
        now = time.time()
        row = (scope, session, turn, now, orjson.dumps(block.memories), block.tokens, block.text)
        await self._file.write("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", [row])
        if not 0 <= now - self._swept_at < _BETWEEN_SWEEPS:
            self._swept_at = now
            await self._file.write("DELETE FROM blocks WHERE at<?", [(now - _KEPT_FOR,)])

    async def drop(self, scope: str, session: str, turns: Iterable[str]) -> None:
        rows = [(scope, session, turn) for turn in turns]
        await self._file.write("DELETE FROM blocks WHERE scope=? AND session=? AND turn=?", rows)

    async def purge(self, scopes: Iterable[str]) -> None:
        """Leave nothing of these scopes, on the disk neither."""
        await self._file.write("DELETE FROM blocks WHERE scope=?", [(scope,) for scope in scopes])
        await self._file.scrub()
