"""What is still to be learnt from: conversations that a model has not looked at yet. SQLite, one file, one thread.

It follows the journal: what the store took is noted with its sequence number, and after a start goes on from there. It
holds who and when, never a text. What was spent on each scope is kept by day.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.store.sqlite_file import SqliteFile

__all__ = ["Agenda", "AgendaFailed", "Due", "Said"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    scope TEXT NOT NULL, session TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL, learnt TEXT NOT NULL,
    tokens INTEGER NOT NULL, due REAL NOT NULL, tries INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (scope, session)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS conversations_by_due ON conversations (due);
CREATE TABLE IF NOT EXISTS spent (
    scope TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, cost REAL NOT NULL, PRIMARY KEY (scope, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
# the last two values are those of the window, and now
_NOTING = """
INSERT INTO conversations SELECT ?, ?, ?, ?, '', ?, ?, 0, '' WHERE 1
ON CONFLICT DO UPDATE SET
    first=min(first, excluded.first), last=max(last, excluded.last), tokens=tokens+excluded.tokens,
    due=CASE WHEN tries>0 THEN due WHEN tokens+excluded.tokens>=? THEN ? ELSE excluded.due END
"""
_ASIDE = 1e18  # `due` of what was given up: never
_DAYS_KEPT = 7


class AgendaFailed(Exception):
    """Nothing was written or read: the disk is full, or the file is broken."""


@dataclass(frozen=True, slots=True)
class Said:
    """Messages of one conversation, not looked at yet. Times are seconds since 1970 of when they came."""

    scope: str
    session: str
    first: float
    last: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Due:
    """A conversation whose turn it is. Nothing before `first` is new; `learnt` is the id of the last memory that was
    looked at ("" if none was)."""

    scope: str
    session: str
    first: float
    last: float
    learnt: str
    tries: int


class Agenda:
    """Raises AgendaFailed wherever the file is needed."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "learning", AgendaFailed)

    @property
    def is_open(self) -> bool:
        return self._file.is_open

    async def open(self, now: float) -> None:
        """What was given up is tried once more: the model or its settings may be others."""
        if not self._file.is_open:
            await self._file.open()
            await self._file.write("INSERT OR IGNORE INTO places VALUES ('began', ?)", [(now,)])
            await self._file.write("UPDATE conversations SET due=?, tries=0 WHERE due=?", [(now, _ASIDE)])

    async def close(self) -> None:
        await self._file.close()

    async def began(self) -> float:
        """When learning was first switched on: what was said before is nobody's order to send to a model."""
        return await self._place("began")

    async def position(self) -> int:
        """The journal's number up to which all was noted."""
        return int(await self._place("position"))

    async def _place(self, name: str) -> float:
        rows = await self._file.run(
            lambda: self._file.connection.execute("SELECT value FROM places WHERE name=?", (name,)).fetchall()
        )
        return float(rows[0][0]) if rows else 0.0

    async def note(self, said: Iterable[Said], position: int, *, now: float, idle: float, window: int) -> None:
        """These were said, and all in the journal up to `position` is noted. A conversation is due when nothing was
        said in it for `idle` seconds, or at once when it holds `window` tokens."""
        rows = [
            (one.scope, one.session, one.first, one.last, one.tokens, now if one.tokens >= window else now + idle)
            for one in said
        ]

        def work(connection: Any) -> None:
            connection.executemany(
                _NOTING,
                [(*row, int(window), now) for row in rows],
            )
            connection.execute("INSERT OR REPLACE INTO places VALUES ('position', ?)", (position,))

        await self._file.run(lambda: self._file.transaction(work))

    async def due(self, now: float, limit: int) -> list[Due]:
        """Conversations whose turn it is, the longest due first."""
        rows = await self._file.run(
            lambda: self._file.connection.execute(
                "SELECT scope, session, first, last, learnt, tries FROM conversations WHERE due<=? "
                "ORDER BY due LIMIT ?",
                (now, limit),
            ).fetchall()
        )
        return [Due(*row) for row in rows]

    async def next_due(self) -> float | None:
        """When the next conversation is due, in seconds since 1970; None if none waits."""
        rows = await self._file.run(
            lambda: self._file.connection.execute(
                "SELECT min(due) FROM conversations WHERE due<?", (_ASIDE,)
            ).fetchall()
        )
        found: float | None = rows[0][0]
        return found

    async def learnt(self, due: Due, last_id: str, tokens: int) -> None:
        """All up to this memory was looked at, and more is there."""
        await self._file.write(
            "UPDATE conversations SET learnt=?, tokens=max(0, tokens-?), tries=0, reason='' "
            "WHERE scope=? AND session=?",
            [(last_id, tokens, due.scope, due.session)],
        )

    async def ended(self, due: Due) -> None:
        """Nothing is left of what was there when it was due; what was said since waits on."""
        await self._file.write(
            "DELETE FROM conversations WHERE scope=? AND session=? AND last<=?", [(due.scope, due.session, due.last)]
        )

    async def put_off(self, due: Due, until: float, reason: str) -> None:
        """It could not be done now, and nobody is to blame."""
        await self._file.write(
            "UPDATE conversations SET due=?, reason=? WHERE scope=? AND session=?",
            [(until, reason, due.scope, due.session)],
        )

    async def failed(self, due: Due, until: float, reason: str) -> None:
        """One more try was in vain."""
        await self._file.write(
            "UPDATE conversations SET due=?, tries=tries+1, reason=? WHERE scope=? AND session=?",
            [(until, reason, due.scope, due.session)],
        )

    async def give_up(self, due: Due, reason: str) -> None:
        """It is not tried again before the next start."""
        await self.failed(due, _ASIDE, reason)

    async def counts(self) -> tuple[int, int]:
        """Conversations that wait, and those that were given up."""
        rows = await self._file.run(
            lambda: self._file.connection.execute(
                "SELECT coalesce(sum(due<?), 0), coalesce(sum(due>=?), 0) FROM conversations", (_ASIDE, _ASIDE)
            ).fetchall()
        )
        return int(rows[0][0]), int(rows[0][1])

    async def spend(self, scope: str, day: int, tokens: int, cost: float) -> None:
        """Note what was used on a scope. `day`: days since 1970."""
        await self._file.write(
            "INSERT INTO spent VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET tokens=spent.tokens+excluded.tokens, cost=spent.cost+excluded.cost",
            [(scope, day, tokens, cost)],
        )
        await self._file.write("DELETE FROM spent WHERE day<?", [(day - _DAYS_KEPT,)])

    async def spent(self, scope: str, day: int) -> tuple[int, float]:
        """Tokens and US dollars that were used on a scope that day."""
        rows = await self._file.run(
            lambda: self._file.connection.execute(
                "SELECT tokens, cost FROM spent WHERE scope=? AND day=?", (scope, day)
            ).fetchall()
        )
        return (int(rows[0][0]), float(rows[0][1])) if rows else (0, 0.0)

    async def forget(self, scopes: Sequence[str], session: str | None = None) -> None:
        """Leave nothing that names these scopes' conversations, on the disk neither."""
        if not self._file.is_open:
            return
        if session is None:
            await self._file.write("DELETE FROM conversations WHERE scope=?", [(scope,) for scope in scopes])
        else:
            await self._file.write(
                "DELETE FROM conversations WHERE scope=? AND session=?", [(scope, session) for scope in scopes]
            )
        await self._file.scrub()
