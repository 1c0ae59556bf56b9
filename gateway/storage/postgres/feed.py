"""The feed of new entries: every gateway of a cluster follows the shared log by number.

It reads twice a second. A notification of PostgreSQL shortens the wait; through a pooler there are none. Entries that
come quickly are read together, since each read costs every gateway CPU time, also for users that it does not serve.
Since numbers are given in the order of commits, an entry with a smaller number never appears later.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements
from gateway.storage.postgres.entries import parse_entry
from gateway.storage.postgres.names import CHANNEL
from gateway.storage.values import JournalEntry

__all__ = ["Feed", "Followed"]

_POLL: Final = 0.5  # seconds
_GATHERING: Final = 0.02  # seconds between two reads
_MAX_READ: Final = 1_000  # entries
_NUMBERS: Final = """
SELECT seq, scope, is_tombstone OR position('.' IN id)>0, (SELECT value FROM meta WHERE name='swept') FROM entries
WHERE seq>? ORDER BY seq LIMIT ?
"""
_PAYLOADS: Final = """
SELECT seq, id, payload, tries, embedder, vector, scope FROM entries WHERE seq = ANY (?::bigint[]) ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Followed:
    """New entries up to the number `seq`, of the scopes that were asked for; perhaps none.

    `changed`: the scopes of all new entries that change or delete a memory. `dropped`: scopes with entries that have
    lost their texts since, for a later version, a deletion, or their age: what was loaded of them must be loaded again.
    If not `is_complete`, that holds for all scopes: the follower fell behind by more than the time that entries are
    known at all. `newest_at`: the monotonic time at which there were no later entries; None if there may be some.
    """

    seq: int
    entries: Sequence[JournalEntry] = ()
    changed: Collection[str] = ()
    dropped: Collection[str] = ()
    is_complete: bool = True
    newest_at: float | None = None


class Feed:
    """Reads new entries of the shared log, on a connection of its own. Every method raises StorageError."""

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "feed")

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def follow(
        self, after: int, wanted: Callable[[Collection[str]], Collection[str]] | None = None
    ) -> AsyncIterator[Followed]:
        """The entries after a number, in order, none left out; at least every half second, also if there are none.
        `wanted`: those of some scopes whose entries are needed. Ends with an error when the database is away; call it
        again then."""
        while True:
            began = time.monotonic()
            rows = await self._database.read(_NUMBERS, (after, _MAX_READ))
            is_newest = len(rows) < _MAX_READ
            followed = await self._read(after, rows, wanted, began if is_newest else None)
            yield followed
            after = followed.seq
            if is_newest:
                await self._database.run(lambda: self._database.wait_for_notification(CHANNEL, _POLL))
                await asyncio.sleep(max(0.0, began + _GATHERING - time.monotonic()))

    async def _read(
        self,
        after: int,
        rows: Sequence[tuple[Any, ...]],
        wanted: Callable[[Collection[str]], Collection[str]] | None,
        newest_at: float | None,
    ) -> Followed:
        """The entries with these numbers, as far as they are needed."""
        if not rows:
            return Followed(after, newest_at=newest_at)
        scopes = {row[1] for row in rows}
        chosen = scopes if wanted is None else scopes.intersection(wanted(scopes))
        seqs = [row[0] for row in rows if row[1] in chosen]
        changed = frozenset(scope for _, scope, is_change, _ in rows if is_change)
        if not seqs:
            swept = rows[0][3]
            return Followed(rows[-1][0], [], changed, (), swept is None or swept <= after, newest_at)

        def work(statements: PostgresStatements) -> Followed:
            swept = statements.execute("SELECT value FROM meta WHERE name='swept'")
            payloads = statements.execute(_PAYLOADS, (seqs,))
            entries = [parse_entry(row[:-1], row[0]) for row in payloads if row[2] is not None]
            dropped = {row[-1] for row in payloads if row[2] is None}
            is_complete = not swept or swept[0][0] <= after
            return Followed(rows[-1][0], entries, changed, dropped, is_complete, newest_at)

        return await self._database.run(lambda: self._database.transaction(work))
