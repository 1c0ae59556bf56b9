"""Messages between the gateways of a cluster: a row for each recipient, which deletes it when it has acted on it.

So the sender knows who has not done so yet, and a gateway that was away acts on what it missed. Values are JSON.
"""

from collections.abc import Collection
from typing import Any, Final

import orjson

from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements
from gateway.storage.postgres.names import MAIL_CHANNEL

__all__ = ["Mail"]

_POLL: Final = 0.5  # seconds
_MAX_AGE: Final = 3_600.0  # seconds; a recipient that was away for longer has nothing in RAM any more
_MAX_TAKEN: Final = 500
_SEND: Final = """
INSERT INTO mail (recipient, kind, value, at)
SELECT r, ?, ?, now_seconds() FROM unnest(?::text[]) AS r RETURNING id, recipient
"""
_TAKE: Final = """
SELECT id, kind, value FROM mail WHERE recipient=? AND id <> ALL (?::bigint[]) ORDER BY id LIMIT ?
"""


class Mail:
    """Sends messages to other gateways, and takes those to this one, whose name is `owner`. Every method raises
    StorageError."""

    def __init__(self, url: str, owner: str) -> None:
        self._owner = owner
        self._database = PostgresDatabase(url, "mail")
        self._feed = PostgresDatabase(url, "mail-feed")  # which waits most of the time

    async def open(self) -> None:
        await self._database.open()
        await self._feed.open()

    async def close(self) -> None:
        await self._feed.close()
        await self._database.close()

    async def send(self, recipients: Collection[str], kind: str, value: Any) -> dict[int, str]:
        """Send a message. Returns its recipients by the numbers of their rows."""
        content = orjson.dumps(value)

        def work(statements: PostgresStatements) -> list[tuple[Any, ...]]:
            rows = statements.execute(_SEND, (kind, content, sorted(set(recipients))))
            statements.execute(f"SELECT pg_notify('{MAIL_CHANNEL}', '')")
            return rows

        if not recipients:
            return {}
        return dict(await self._database.run(lambda: self._database.transaction(work)))

    async def pending(self, numbers: Collection[int]) -> set[int]:
        """Those of these rows that their recipients have not acted on."""
        rows = await self._database.read("SELECT id FROM mail WHERE id = ANY (?::bigint[])", (list(numbers),))
        return {number for (number,) in rows}

    async def withdraw(self, numbers: Collection[int]) -> None:
        """Delete rows of recipients that have ended."""
        await self._database.write("DELETE FROM mail WHERE id=?", [(number,) for number in numbers])

    async def take(self, excluded: Collection[int]) -> list[tuple[int, str, Any]]:
        """The messages to this gateway in order: number, kind and value. Waits half a second for them."""
        left_out = list(excluded)

        def work() -> list[tuple[Any, ...]]:
            rows = self._read(left_out)
            if rows:
                return rows
            self._feed.wait_for_notification(MAIL_CHANNEL, _POLL)
            return self._read(left_out)

        rows = await self._feed.run(work)
        return [(number, kind, orjson.loads(value)) for number, kind, value in rows]

    async def done(self, number: int) -> None:
        """This gateway has acted on a message."""
        await self._database.write("DELETE FROM mail WHERE id=?", [(number,)])

    async def sweep(self) -> None:
        """Delete messages to gateways that ended long ago."""
        await self._database.read("DELETE FROM mail WHERE at<now_seconds() - ? RETURNING 1", (_MAX_AGE,))

    def _read(self, excluded: list[int]) -> list[tuple[Any, ...]]:
        values = (self._owner, excluded, _MAX_TAKEN)
        return self._feed.transaction(lambda statements: statements.execute(_TAKE, values))
