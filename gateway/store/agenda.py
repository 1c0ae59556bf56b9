"""What is still to be learnt from: messages that a model has not looked at yet. SQLite, one file, one thread.

It follows the journal: what the store took is noted under its sequence number, and after a start goes on from there. It
holds who, where and which, never a text. What was spent on each scope is kept by day.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.store.sqlite_file import SqliteFile

__all__ = ["Agenda", "AgendaFailed", "Due", "Said"]

_SCHEMA = """
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
# somebody speaks in a conversation: it rests later; one that is being tried again keeps its time
_SPOKEN = """
INSERT INTO conversations VALUES (?, ?, ?, 0, '', '') ON CONFLICT DO UPDATE SET
    due=CASE WHEN tries>0 THEN due ELSE excluded.due END
"""
_FULL = """
UPDATE conversations SET due=min(due, ?) WHERE tries=0 AND scope=? AND session=? AND
    (SELECT sum(tokens) FROM messages WHERE messages.scope=conversations.scope AND
     messages.session=conversations.session AND aside=0)>=?
"""
_ENDED = """
DELETE FROM conversations WHERE scope=? AND session=? AND NOT EXISTS (
    SELECT 1 FROM messages WHERE messages.scope=conversations.scope AND messages.session=conversations.session
    AND aside=0)
"""
_DUE = """
SELECT scope, session, tries, before, min(due) FROM conversations WHERE due<=? GROUP BY scope ORDER BY 5 LIMIT ?
"""
_DAYS_KEPT = 7


class AgendaFailed(Exception):
    """Nothing was written or read: the disk is full, or the file is broken."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message that nobody has looked at yet; `seq` is its journal number."""

    seq: int
    scope: str
    session: str
    id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Due:
    """A conversation whose turn it is. `before`: ids of the messages that were looked at last, joined by spaces."""

    scope: str
    session: str
    tries: int
    before: str


class Agenda:
    """Raises AgendaFailed wherever the file is needed."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "learning", AgendaFailed)

    @property
    def is_open(self) -> bool:
        return self._file.is_open

    async def open(self, now: float) -> None:
        """What was given up is tried once more: the model or its settings may be others."""
        if self._file.is_open:
            return
        await self._file.open()
        await self._file.write("INSERT OR IGNORE INTO places VALUES ('began', ?)", [(now,)])
        await self._file.write(
            "INSERT OR IGNORE INTO conversations SELECT scope, session, ?, 0, '', '' FROM messages WHERE aside=1",
            [(now,)],
        )
        await self._file.write("UPDATE messages SET aside=0 WHERE aside=?", [(1,)])

    async def close(self) -> None:
        await self._file.close()

    async def began(self) -> float:
        """When learning was first switched on: what was said before is nobody's order to send to a model."""
        return await self._place("began")

    async def begin(self, now: float) -> None:
        """Learning was switched on now."""
        await self._file.write("INSERT OR REPLACE INTO places VALUES ('began', ?)", [(now,)])

    async def position(self) -> int:
        """The journal's number up to which all was noted."""
        return int(await self._place("position"))

    async def _place(self, name: str) -> float:
        rows = await self._rows("SELECT value FROM places WHERE name=?", name)
        return float(rows[0][0]) if rows else 0.0

    async def note(self, said: Sequence[Said], position: int, *, now: float, idle: float, window: int) -> None:
        """These were said, and all in the journal up to `position` is noted. A conversation is due when nothing was
        said in it for `idle` seconds, or at once when it holds `window` tokens."""
        rows = [(one.seq, one.scope, one.session, one.id, one.tokens) for one in said]
        places = list(dict.fromkeys((one.scope, one.session) for one in said))

        def work(connection: Any) -> None:
            connection.executemany("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, 0)", rows)
            connection.executemany(_SPOKEN, [(*place, now + idle) for place in places])
            connection.executemany(_FULL, [(now, *place, window) for place in places])
            connection.execute("INSERT OR REPLACE INTO places VALUES ('position', ?)", (position,))

        await self._file.run(lambda: self._file.transaction(work))

    async def due(self, now: float, limit: int) -> list[Due]:
        """Conversations whose turn it is, the longest due first; one of each scope."""
        rows = await self._rows(_DUE, now, limit)
        return [Due(*row[:4]) for row in rows]

    async def next_due(self) -> float | None:
        """When the next conversation is due, in seconds since 1970; None if none waits."""
        found: float | None = (await self._rows("SELECT min(due) FROM conversations"))[0][0]
        return found

    async def waiting(self, due: Due, limit: int) -> list[tuple[int, str]]:
        """The oldest messages of a conversation that nobody has looked at: their numbers and ids."""
        return await self._rows(
            "SELECT seq, id FROM messages WHERE scope=? AND session=? AND aside=0 ORDER BY seq LIMIT ?",
            due.scope,
            due.session,
            limit,
        )

    async def learnt(self, due: Due, seqs: Iterable[int], before: str) -> None:
        """These were looked at. `before`: the last of them, for whoever reads what comes after."""
        await self._file.write("DELETE FROM messages WHERE seq=?", [(seq,) for seq in seqs])
        await self._file.write(
            "UPDATE conversations SET tries=0, reason='', before=? WHERE scope=? AND session=?",
            [(before, due.scope, due.session)],
        )

    async def strike(self, seqs: Iterable[int]) -> None:
        """These are not there any more."""
        await self._file.write("DELETE FROM messages WHERE seq=?", [(seq,) for seq in seqs])

    async def ended(self, due: Due) -> None:
        """A conversation of which nothing waits is done; what was said meanwhile keeps it."""
        await self._file.write(_ENDED, [(due.scope, due.session)])

    async def put_off(self, due: Due, until: float, reason: str) -> None:
        """It could not be done now, and nobody is to blame."""
        await self._put_off(due, until, reason, 0)

    async def failed(self, due: Due, until: float, reason: str) -> None:
        """One more try was in vain."""
        await self._put_off(due, until, reason, 1)

    async def _put_off(self, due: Due, until: float, reason: str, more: int) -> None:
        await self._file.write(
            "UPDATE conversations SET due=?, tries=tries+?, reason=? WHERE scope=? AND session=?",
            [(until, more, reason, due.scope, due.session)],
        )

    async def give_up(self, due: Due, seqs: Iterable[int]) -> None:
        """These messages are not tried again before the next start; what is said after them is."""
        await self._file.write("UPDATE messages SET aside=1 WHERE seq=?", [(seq,) for seq in seqs])
        await self._file.write(
            "UPDATE conversations SET tries=0, reason='' WHERE scope=? AND session=?", [(due.scope, due.session)]
        )
        await self.ended(due)

    async def counts(self) -> tuple[int, int]:
        """Conversations that wait, and those of which something was given up."""
        waiting = await self._rows("SELECT count(*) FROM conversations")
        aside = await self._rows("SELECT count(*) FROM (SELECT DISTINCT scope, session FROM messages WHERE aside=1)")
        return int(waiting[0][0]), int(aside[0][0])

    async def spend(self, scope: str, day: int, tokens: int, cost: float) -> None:
        """Note what was used on a scope; less than nothing, where more was set aside. `day`: days since 1970."""
        await self._file.write(
            "INSERT INTO spent VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET tokens=spent.tokens+excluded.tokens, cost=spent.cost+excluded.cost",
            [(scope, day, tokens, cost)],
        )
        await self._file.write("DELETE FROM spent WHERE day<?", [(day - _DAYS_KEPT,)])

    async def spent(self, scope: str, day: int) -> tuple[int, float]:
        """Tokens and US dollars that were used on a scope that day."""
        rows = await self._rows("SELECT tokens, cost FROM spent WHERE scope=? AND day=?", scope, day)
        return (int(rows[0][0]), float(rows[0][1])) if rows else (0, 0.0)

    async def forget(self, scopes: Sequence[str], session: str | None = None) -> None:
        """Leave nothing that names these scopes' conversations, on the disk neither."""
        if not self._file.is_open:
            return
        only = "" if session is None else " AND session=?"
        rows = [(scope,) if session is None else (scope, session) for scope in scopes]
        for table in ("messages", "conversations"):
            await self._file.write(f"DELETE FROM {table} WHERE scope=?{only}", rows)  # noqa: S608 — names of our own
        await self._file.scrub()

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        return await self._file.run(lambda: self._file.connection.execute(statement, values).fetchall())
