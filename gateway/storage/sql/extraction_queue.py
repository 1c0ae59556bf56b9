"""The extraction queue: messages from which a model has not extracted facts yet. Tables in a SQL database.

It follows the journal: messages that the store took are noted under their sequence numbers, and a new process continues
from the last one. It holds scopes, sessions and ids, never a text. Tokens and cost are summed per scope and day.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.storage.sql.database import SqlDatabase, Statements
from gateway.storage.values import DueConversation, PendingMessage

__all__ = ["SqlExtractionQueue"]

# a new message postpones its conversation, which becomes due when idle; one that is being retried keeps its time
_POSTPONE = """
INSERT INTO conversations VALUES (?, ?, ?, 0, '', '') ON CONFLICT (scope, session) DO UPDATE SET
    due=CASE WHEN conversations.tries>0 THEN conversations.due ELSE excluded.due END
"""
_ADVANCE_FULL = """
UPDATE conversations SET due=? WHERE due>? AND tries=0 AND scope=? AND session=? AND
    (SELECT sum(tokens) FROM messages WHERE messages.scope=conversations.scope AND
     messages.session=conversations.session AND aside=0)>=?
"""
_SET_PLACE = "INSERT INTO places VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value=excluded.value"
_ADD_MESSAGE = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (seq) DO NOTHING"
_REVIVE = """
INSERT INTO conversations SELECT DISTINCT scope, session, ?, 0, '', '' FROM messages WHERE aside=1
    ON CONFLICT (scope, session) DO NOTHING
"""
_DELETE_DRAINED = """
DELETE FROM conversations WHERE scope=? AND session=? AND NOT EXISTS (
    SELECT 1 FROM messages WHERE messages.scope=conversations.scope AND messages.session=conversations.session
    AND aside=0)
"""
_SELECT_DUE = """
SELECT scope, session, tries, before FROM (
    SELECT scope, session, tries, before, due, row_number() OVER (PARTITION BY scope ORDER BY due, session) AS place
    FROM conversations WHERE due<=?
) AS ranked WHERE place=1 ORDER BY due LIMIT ?
"""
_RETENTION_DAYS = 7
_MAX_LOOKED_AT = 10_000  # conversations, of which some are another process's


class SqlExtractionQueue:
    """The queue's tables. Methods that need them raise StorageError. `is_owner`: this process retries messages that
    were dead-lettered when it opens the queue."""

    def __init__(self, database: SqlDatabase, *, is_owner: bool = True) -> None:
        self._database = database
        self._is_owner = is_owner

    @property
    def is_open(self) -> bool:
        return self._database.is_open

    async def open(self, now: float) -> None:
        """Open the queue, and retry dead-lettered messages once: the model or its settings may have changed."""
        if not await self._database.open() or not self._is_owner:
            return
        await self._database.write("INSERT INTO places VALUES ('began', ?) ON CONFLICT (name) DO NOTHING", [(now,)])
        await self._database.write(_REVIVE, [(now,)])
        await self._database.write("UPDATE messages SET aside=0 WHERE aside=?", [(1,)])

    async def close(self) -> None:
        await self._database.close()

    async def began(self) -> float:
        """When extraction was first enabled; messages from before that are never sent to a model."""
        return await self._load_value("began")

    async def begin(self, now: float) -> None:
        """Record that extraction was enabled now."""
        await self._database.write(_SET_PLACE, [("began", now)])

    async def positions(self) -> Mapping[int, int]:
        """The journal's sequence numbers up to which all messages are noted, by part of the memory."""
        rows = await self._fetch("SELECT name, value FROM places WHERE name LIKE 'position%'")
        return {int(name.partition(":")[2] or 0): int(value) for name, value in rows}

    async def _load_value(self, name: str) -> float:
        rows = await self._fetch("SELECT value FROM places WHERE name=?", name)
        return float(rows[0][0]) if rows else 0.0

    async def note(
        self, said: Sequence[PendingMessage], positions: Mapping[int, int], *, now: float, idle: float, window: int
    ) -> None:
        """Add messages, and record that all in the journal up to `positions` is noted. A conversation is due when it
        was idle for `idle` seconds, or at once when it holds `window` tokens."""
        rows = [(message.seq, message.scope, message.session, message.id, message.tokens) for message in said]
        conversations = list(dict.fromkeys((message.scope, message.session) for message in said))

        def work(connection: Statements) -> None:
            connection.executemany(_ADD_MESSAGE, rows)
            connection.executemany(_POSTPONE, [(*conversation, now + idle) for conversation in conversations])
            connection.executemany(_ADVANCE_FULL, [(now, now, *conversation, window) for conversation in conversations])
            connection.executemany(_SET_PLACE, [(_position(part), seq) for part, seq in sorted(positions.items())])

        await self._database.run(lambda: self._database.transaction(work))

    async def due(self, now: float, limit: int, owns: Callable[[str], bool] | None = None) -> list[DueConversation]:
        """Conversations that are due, the longest due first; one of each scope. `owns`: only of these scopes."""
        rows = await self._fetch(_SELECT_DUE, now, limit if owns is None else _MAX_LOOKED_AT)
        return [DueConversation(*row[:4]) for row in rows if owns is None or owns(row[0])][:limit]

    async def next_due(self, owns: Callable[[str], bool] | None = None) -> float | None:
        """When the next conversation is due, in seconds since 1970; None if none waits."""
        if owns is not None:
            rows = await self._fetch("SELECT scope, due FROM conversations ORDER BY due LIMIT ?", _MAX_LOOKED_AT)
            return next((due for scope, due in rows if owns(scope)), None)
        due: float | None = (await self._fetch("SELECT min(due) FROM conversations"))[0][0]
        return due

    async def waiting(self, due: DueConversation, limit: int) -> list[tuple[int, str]]:
        """The oldest pending messages of a conversation: their journal numbers and ids."""
        return await self._fetch(
            "SELECT seq, id FROM messages WHERE scope=? AND session=? AND aside=0 ORDER BY seq LIMIT ?",
            due.scope,
            due.session,
            limit,
        )

    async def learnt(self, due: DueConversation, seqs: Iterable[int], before: str) -> None:
        """Remove processed messages. `before`: ids of the last of them, as context for the messages that follow."""
        await self._database.write("DELETE FROM messages WHERE seq=?", [(seq,) for seq in seqs])
        await self._database.write(
            "UPDATE conversations SET tries=0, reason='', before=? WHERE scope=? AND session=?",
            [(before, due.scope, due.session)],
        )

    async def mark_deleted(self, seqs: Iterable[int]) -> None:
        """Remove messages that no longer exist."""
        await self._database.write("DELETE FROM messages WHERE seq=?", [(seq,) for seq in seqs])

    async def ended(self, due: DueConversation) -> None:
        """Remove a conversation that has no pending messages; one with newer messages stays."""
        await self._database.write(_DELETE_DRAINED, [(due.scope, due.session)])

    async def put_off(self, due: DueConversation, until: float, reason: str) -> None:
        """Postpone a conversation without counting a try, as for an outage."""
        await self._postpone(due, until, reason, 0)

    async def failed(self, due: DueConversation, until: float, reason: str) -> None:
        """Postpone a conversation after a failed try, which counts."""
        await self._postpone(due, until, reason, 1)

    async def _postpone(self, due: DueConversation, until: float, reason: str, new_tries: int) -> None:
        await self._database.write(
            "UPDATE conversations SET due=?, tries=tries+?, reason=? WHERE scope=? AND session=?",
            [(until, new_tries, reason, due.scope, due.session)],
        )

    async def give_up(self, due: DueConversation, seqs: Iterable[int]) -> None:
        """Dead-letter messages until the next start; later messages of the conversation are still processed."""
        await self._database.write("UPDATE messages SET aside=1 WHERE seq=?", [(seq,) for seq in seqs])
        await self._database.write(
            "UPDATE conversations SET tries=0, reason='' WHERE scope=? AND session=?", [(due.scope, due.session)]
        )
        await self.ended(due)

    async def counts(self) -> tuple[int, int]:
        """Numbers of waiting conversations, and of conversations with dead-lettered messages."""
        waiting = await self._fetch("SELECT count(*) FROM conversations")
        aside = await self._fetch(
            "SELECT count(*) FROM (SELECT DISTINCT scope, session FROM messages WHERE aside=1) AS given_up"
        )
        return int(waiting[0][0]), int(aside[0][0])

    async def spend(self, scope: str, day: int, tokens: int, cost: float) -> None:
        """Add tokens and cost (US dollars) to a scope's day; negative to release a reserve. `day`: days since 1970."""
        await self._database.write(
            "INSERT INTO spent VALUES (?, ?, ?, ?) "
            "ON CONFLICT (scope, day) DO UPDATE SET tokens=spent.tokens+excluded.tokens, cost=spent.cost+excluded.cost",
            [(scope, day, tokens, cost)],
        )
        await self._database.write("DELETE FROM spent WHERE day<?", [(day - _RETENTION_DAYS,)])

    async def spent(self, scope: str, day: int) -> tuple[int, float]:
        """Tokens and US dollars spent on a scope that day."""
        rows = await self._fetch("SELECT tokens, cost FROM spent WHERE scope=? AND day=?", scope, day)
        return (int(rows[0][0]), float(rows[0][1])) if rows else (0, 0.0)

    async def forget(self, scopes: Sequence[str], session: str | None = None) -> None:
        """Erase all entries of these scopes, or of one session in each, from the file and from the disk."""
        if not self._database.is_open:
            return
        session_condition = "" if session is None else " AND session=?"
        rows = [(scope,) if session is None else (scope, session) for scope in scopes]
        for table in ("messages", "conversations"):
            await self._database.write(f"DELETE FROM {table} WHERE scope=?{session_condition}", rows)  # noqa: S608 — names of our own
        await self._database.scrub()

    async def _fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._database.read(statement, values)


def _position(part: int) -> str:
    """The name of the place of a part; that of the first one is older than the division."""
    return f"position:{part}" if part else "position"
