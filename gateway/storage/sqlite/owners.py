"""Owners of the responses and conversations that upstreams store for the gateway's users, by id. SQLite, one file.

Without a working file, owners are held in RAM, for this process only.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from pathlib import Path

from gateway.storage.errors import StorageError
from gateway.storage.sqlite.database import Database
from gateway.storage.values import Owner

__all__ = ["SqliteOwners"]

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS owners (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT, upstream TEXT NOT NULL, session TEXT, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS owners_by_age ON owners (at);
"""
_MIGRATIONS = (_VERSION_1,)
_MAX_IN_RAM = 20_000
_MAX_ROWS = 1_000_000
_MAX_AGE = 86_400.0 * 60  # seconds; OpenAI keeps responses for 30 days
_WRITES_BETWEEN_SWEEPS = 1000
_MAX_ID = 512  # characters

_log = logging.getLogger("gateway.store")


class SqliteOwners:
    """Owners by id; the newest in RAM, all of the last 60 days on the disk. With `is_owner` false, another process
    creates the file, perhaps later than this one opens it."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        self._is_owner = is_owner
        self._database = Database(path, "responses", _MIGRATIONS, is_owner=is_owner)
        self._recent: OrderedDict[str, Owner] = OrderedDict()
        self._unwritten: dict[str, Owner] = {}
        self._writing: asyncio.Task[None] | None = None
        self._writes = 0

    async def open(self) -> None:
        """Open the file. Raises StorageError."""
        await self._database.open()

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)
        await self._database.close()

    def put(self, id_: str, owner: Owner) -> None:
        """Set an owner; it is written to the disk in the background."""
        if len(id_) > _MAX_ID:
            return
        self._remember(id_, owner)
        self._unwritten[id_] = owner
        if (self._database.is_open or not self._is_owner) and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(), name="response-owners")

    async def get(self, id_: str) -> Owner | None:
        """The owner of an id; None if it is not known."""
        owner = self.recent(id_)
        if owner is not None or len(id_) > _MAX_ID or (self._is_owner and not self._database.is_open):
            return owner
        try:
            await self._database.open()
            rows = await self._database.read("SELECT tenant, user, upstream, session FROM owners WHERE id=?", (id_,))
        except StorageError as error:
            _log.warning("response_owner_read_failed", extra={"cause": str(error)})
            return None
        if not rows:
            return None
        owner = Owner(*rows[0])
        self._remember(id_, owner)
        return owner

    def recent(self, id_: str) -> Owner | None:
        """The owner of an id, if it is in RAM."""
        return self._recent.get(id_) or self._unwritten.get(id_)

    async def drop(self, tenant: str | None, user: str | None) -> None:
        """Drop the entries of a user (None: of all users) from RAM, and end writing them to the disk."""
        for entries in (self._recent, self._unwritten):
            for id_ in [id_ for id_, owner in entries.items() if _is_of(owner, tenant, user)]:
                del entries[id_]
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Erase all entries of a user (None: of all users). Raises StorageError."""
        await self.drop(tenant, user)
        if not self._database.is_open:
            return
        filters = {name: value for name, value in (("tenant", tenant), ("user", user)) if value is not None}
        where = " AND ".join([f"{name}=?" for name in filters] or ["1"])
        await self._database.write(f"DELETE FROM owners WHERE {where}", [tuple(filters.values())])  # noqa: S608 — ours
        await self._database.scrub()

    def _remember(self, id_: str, owner: Owner) -> None:
        self._recent[id_] = owner
        self._recent.move_to_end(id_)
        if len(self._recent) > _MAX_IN_RAM:
            self._recent.popitem(last=False)

    async def _write(self) -> None:
        while self._unwritten:
            batch, self._unwritten = self._unwritten, {}
            now = time.time()
            rows = [(id_, owner.tenant, owner.user, owner.upstream, owner.session, now) for id_, owner in batch.items()]
            try:
                await self._database.open()
                await self._database.write("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?, ?)", rows)
                self._writes += len(rows)
                if self._writes >= _WRITES_BETWEEN_SWEEPS:
                    self._writes = 0
                    await self._sweep(now)
            except StorageError as error:  # still held in RAM
                _log.warning("response_owners_write_failed", extra={"cause": str(error)})
                return

    async def _sweep(self, now: float) -> None:
        await self._database.write("DELETE FROM owners WHERE at < ?", [(now - _MAX_AGE,)])
        oldest = "SELECT at FROM owners ORDER BY at DESC LIMIT 1 OFFSET ?"
        await self._database.write(f"DELETE FROM owners WHERE at < ({oldest})", [(_MAX_ROWS,)])  # noqa: S608 — ours


def _is_of(owner: Owner, tenant: str | None, user: str | None) -> bool:
    return tenant in (None, owner.tenant) and user in (None, owner.user)
