"""The registry: metadata beside memories, in a SQL database.

Scopes with their owners, knowledge bases and their files, tasks, profiles, and settings that were changed at run time.
Methods take a tenant first, and never see rows of another one. Free-form values are JSON.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson

from gateway.storage.sql.database import SqlDatabase
from gateway.storage.values import DELETING, PROFILE, SETTINGS, KnowledgeFile, RegistryItem, Task
from gateway.turn import Scope, ScopeKind

__all__ = ["SqlRegistry"]

_OWNED = """
SELECT * FROM scopes WHERE tenant=? AND owner IN (
    SELECT DISTINCT owner FROM scopes
    WHERE tenant=? AND owner > ? AND lower(owner) LIKE lower(?) ESCAPE '!' ORDER BY owner LIMIT ?
) ORDER BY owner, kind DESC, cube_id
"""
_TASK_RETENTION = 86_400.0 * 7
_TASKS_BETWEEN_SWEEPS = 256
_MAX_CACHED_SCOPES = 100_000  # scopes that need not be written again


class SqlRegistry:
    """The registry's tables. They are opened before the port. Raises StorageError. `is_owner`: no other process works
    on tasks, so that those in progress were left by an earlier one. `on_drop` are called when scopes were dropped,
    which other processes may have cached. `changing`: a lock that other processes respect, too."""

    def __init__(
        self,
        database: SqlDatabase,
        *,
        is_owner: bool = True,
        changing: AbstractAsyncContextManager[None] | None = None,
    ) -> None:
        self._database = database
        self._is_owner = is_owner
        self.on_drop: list[Callable[[], None]] = []
        # held by those who read an item, change it and put it back
        self.changing = asyncio.Lock() if changing is None else changing
        self._scope_cache: dict[str, Scope] = {}
        self._tasks_put = 0

    async def open(self) -> None:
        if not await self._database.open() or not self._is_owner:
            return
        # model calls that the last process left unfinished: no worker will continue them
        await self._database.write("UPDATE tasks SET status='failed' WHERE seq=0 AND status=?", [("in_progress",)])

    async def close(self) -> None:
        await self._database.close()

    def forget_cached(self) -> None:
        """Read scopes from the database again: another process may have dropped some."""
        self._scope_cache.clear()

    def _note_drop(self) -> None:
        for listener in self.on_drop:
            listener()

    # scopes

    def knows(self, scope: Scope) -> bool:
        return scope.value in self._scope_cache

    async def add_scopes(self, scopes: Iterable[Scope]) -> None:
        """Register scopes. Recently registered ones cost no write."""
        new = [scope for scope in scopes if scope.value not in self._scope_cache]
        if not new:
            return
        rows = [(scope.value, scope.tenant, scope.cube_id, scope.kind.value, scope.owner) for scope in new]
        await self._database.write("INSERT INTO scopes VALUES (?, ?, ?, ?, ?) ON CONFLICT (value) DO NOTHING", rows)
        if len(self._scope_cache) > _MAX_CACHED_SCOPES:
            self._scope_cache.clear()
        self._scope_cache |= {scope.value: scope for scope in new}

    async def drop_scope(self, scope: Scope) -> None:
        await self._database.write("DELETE FROM scopes WHERE value=?", [(scope.value,)])
        self._scope_cache.pop(scope.value, None)
        self._note_drop()

    async def scope(self, value: str) -> Scope | None:
        scope = self._scope_cache.get(value)
        if scope is None:
            scope = next(iter(_build_scopes(await self._read("SELECT * FROM scopes WHERE value=?", value))), None)
        return scope

    async def scopes(self, tenant: str | None = None) -> list[Scope]:
        """All scopes of a tenant, or of all tenants."""
        if tenant is None:
            return _build_scopes(await self._read("SELECT * FROM scopes ORDER BY tenant, cube_id"))
        return _build_scopes(await self._read("SELECT * FROM scopes WHERE tenant=?", tenant))

    async def scopes_of_cube(self, tenant: str, cube_id: str) -> list[Scope]:
        return _build_scopes(await self._read("SELECT * FROM scopes WHERE tenant=? AND cube_id=?", tenant, cube_id))

    async def scopes_of_owner(self, tenant: str, owner: str) -> list[Scope]:
        return _build_scopes(await self._read("SELECT * FROM scopes WHERE tenant=? AND owner=?", tenant, owner))

    async def owned_scopes(self, tenant: str, containing: str, after: str, limit: int) -> list[Scope]:
        """The scopes of the first `limit` users after an id, by user; their ids contain a text, in any case."""
        literal = containing.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        return _build_scopes(await self._read(_OWNED, tenant, tenant, after, f"%{literal}%", limit))

    async def forget_owner(self, tenant: str, owner: str) -> None:
        """Erase all rows that name a user, from the file and from the disk."""
        await self._database.write("DELETE FROM scopes WHERE tenant=? AND owner=?", [(tenant, owner)])
        await self._database.write('DELETE FROM tasks WHERE tenant=? AND "user"=?', [(tenant, owner)])
        profiles = [item.id for item in await self.items(tenant, PROFILE) if item.value.get("user_id") == owner]
        await self._database.write(
            "DELETE FROM items WHERE tenant=? AND kind=? AND id=?", [(tenant, PROFILE, id_) for id_ in profiles]
        )
        self._scope_cache = {
            value: scope for value, scope in self._scope_cache.items() if (scope.tenant, scope.owner) != (tenant, owner)
        }
        self._note_drop()
        await self._database.scrub()

    async def forget_all(self, tenant: str | None) -> None:
        """Erase all rows of a tenant (None: of all tenants) but settings that were changed at run time."""
        condition, values = ("tenant=?", (tenant,)) if tenant is not None else ("1=1", ())
        for table in ("scopes", "tasks", "files"):
            await self._database.write(f"DELETE FROM {table} WHERE {condition}", [values])  # noqa: S608 — ours
        await self._database.write(f"DELETE FROM items WHERE kind!=? AND {condition}", [(SETTINGS, *values)])  # noqa: S608 — ours
        self._scope_cache = {
            value: scope for value, scope in self._scope_cache.items() if tenant not in (None, scope.tenant)
        }
        self._note_drop()
        await self._database.scrub()

    # items

    async def put_item(self, tenant: str, kind: str, id_: str, value: Mapping[str, Any]) -> None:
        await self._database.write(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (tenant, kind, id) DO UPDATE SET value=excluded.value",
            [(tenant, kind, id_, time.time(), orjson.dumps(dict(value)))],
        )

    async def item(self, tenant: str, kind: str, id_: str) -> RegistryItem | None:
        rows = await self._read("SELECT id, at, value FROM items WHERE tenant=? AND kind=? AND id=?", tenant, kind, id_)
        return next((RegistryItem(id_, at, orjson.loads(value)) for id_, at, value in rows), None)

    async def items(self, tenant: str, kind: str) -> list[RegistryItem]:
        rows = await self._read("SELECT id, at, value FROM items WHERE tenant=? AND kind=? ORDER BY at", tenant, kind)
        return [RegistryItem(id_, at, orjson.loads(value)) for id_, at, value in rows]

    async def drop_item(self, tenant: str, kind: str, id_: str) -> None:
        await self._database.write("DELETE FROM items WHERE tenant=? AND kind=? AND id=?", [(tenant, kind, id_)])

    # files of knowledge bases

    async def put_files(self, tenant: str, files: Sequence[tuple[KnowledgeFile, bytes]]) -> None:
        """Store files with their content, until `end_file` sets their final status."""
        rows = [
            (tenant, file.id, file.cube_id, file.name, file.size, file.kind, file.status, file.error, file.at, content)
            for file, content in files
        ]
        await self._database.write("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    async def end_file(self, tenant: str, id_: str, status: str, error: str = "") -> None:
        await self._database.write(
            "UPDATE files SET status=?, error=?, content=NULL WHERE tenant=? AND id=?", [(status, error, tenant, id_)]
        )

    async def files(
        self, tenant: str, *, cube_id: str | None = None, ids: Sequence[str] = (), with_deleting: bool = False
    ) -> list[KnowledgeFile]:
        """The files of a knowledge base, or those of these ids, oldest first."""
        column, values = ("cube_id", [cube_id]) if cube_id is not None else ("id", list(ids))
        placeholders = ",".join("?" * len(values))  # only question marks go into the statement
        rows = await self._read(
            f"SELECT id, cube_id, name, size, kind, status, error, at FROM files "  # noqa: S608
            f"WHERE tenant=? AND {column} IN ({placeholders}) ORDER BY at, rowid",
            tenant,
            *values,
        )
        names = ("id", "cube_id", "name", "size", "kind", "status", "error", "at")
        documents = [KnowledgeFile(**dict(zip(names, row, strict=True))) for row in rows]
        return [document for document in documents if with_deleting or document.status != DELETING]

    async def unfinished_files(self) -> list[tuple[str, str]]:
        """Tenant and id of files that are not processed yet, oldest first."""
        return await self._read(
            "SELECT tenant, id FROM files WHERE status IN ('running', 'deleting') ORDER BY at, rowid"
        )

    async def file_content(self, tenant: str, id_: str) -> bytes | None:
        rows = await self._read("SELECT content FROM files WHERE tenant=? AND id=?", tenant, id_)
        return rows[0][0] if rows else None

    async def drop_files(self, tenant: str, ids: Sequence[str]) -> None:
        await self._database.write("DELETE FROM files WHERE tenant=? AND id=?", [(tenant, id_) for id_ in ids])

    # tasks

    async def put_task(self, tenant: str, task: Task) -> None:
        now = time.time()
        await self._database.write(
            'INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, "user", id) DO UPDATE '
            "SET status=excluded.status, seq=excluded.seq",
            [(tenant, task.id, task.user, task.cube_id, task.status, task.seq, task.at or now)],
        )
        self._tasks_put += 1
        if self._tasks_put % _TASKS_BETWEEN_SWEEPS == 0:
            await self._database.write("DELETE FROM tasks WHERE at<?", [(now - _TASK_RETENTION,)])

    async def task(self, tenant: str, id_: str, user: str | None = None) -> Task | None:
        """A task by its id, which is unique to a user; the newest of the tenant if no user is named."""
        if user is None:
            return next(iter(await self._tasks("tenant=? AND id=?", tenant, id_)), None)
        return next(iter(await self._tasks('tenant=? AND id=? AND "user"=?', tenant, id_, user)), None)

    async def tasks(self, tenant: str, user: str | None = None) -> list[Task]:
        """Tasks of a tenant, or of one of its users, newest first; a thousand at most."""
        if user is None:
            return await self._tasks("tenant=?", tenant)
        return await self._tasks('tenant=? AND "user"=?', tenant, user)

    async def _tasks(self, condition: str, *values: str) -> list[Task]:
        names = ("id", "user", "cube_id", "status", "seq", "at")
        columns = ", ".join(f'"{name}"' for name in names)  # `user` is a reserved word
        rows = await self._read(
            f"SELECT {columns} FROM tasks WHERE {condition} ORDER BY at DESC LIMIT 1000",  # noqa: S608 — ours
            *values,
        )
        return [Task(**dict(zip(names, row, strict=True))) for row in rows]

    async def _read(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._database.read(statement, values)


def _build_scopes(rows: Sequence[tuple[Any, ...]]) -> list[Scope]:
    return [Scope(value, tenant, cube_id, ScopeKind(kind), owner) for value, tenant, cube_id, kind, owner in rows]
