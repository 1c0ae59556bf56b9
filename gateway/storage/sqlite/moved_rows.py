"""The rows in the SQLite files of a data folder, as a move reads and writes them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from gateway.storage.errors import StorageError
from gateway.storage.moved_tables import MovedTable, RowBatch
from gateway.storage.sql.database import MAX_KEY_TEXT
from gateway.storage.sqlite import blocks, counters, extraction_queue, journal, ledger, owners, registry
from gateway.storage.sqlite.database import Database, Migration

__all__ = ["SqliteRows"]

_MIGRATIONS: Final[Mapping[str, Sequence[Migration]]] = {
    "journal": journal.MIGRATIONS,
    "registry": registry.MIGRATIONS,
    "usage": ledger.MIGRATIONS,
    "responses": owners.MIGRATIONS,
    "counters": counters.MIGRATIONS,
    "blocks": blocks.MIGRATIONS,
    "learning": extraction_queue.MIGRATIONS,
}
_SUMMED: Final = "requests prompt_tokens cached_tokens completion_tokens estimated_tokens cost priced".split()
_USED: Final = (
    f'SELECT hour, tenant, "key", "user", substr(model, 1, {MAX_KEY_TEXT}), upstream, '  # noqa: S608 — ours
    f"{', '.join(f'sum({name})' for name in _SUMMED)} FROM used "
    f'GROUP BY hour, tenant, "key", "user", substr(model, 1, {MAX_KEY_TEXT}), upstream'
)
_NEWEST: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name='entries'"


_T = TypeVar("_T")


class _NamedFile(Database):
    """A file whose errors name it, for the operator of a move."""

    def __init__(self, path: Path, part: str) -> None:
        super().__init__(path, part, _MIGRATIONS[part])
        self._name = str(path)

    async def run(self, job: Callable[[], _T]) -> _T:
        try:
            return await super().run(job)
        except StorageError as error:
            raise StorageError(error.part, f"{self._name}: {error}") from error


class SqliteRows:
    """The files in `folder`, which are created where they are missing; see `MovedRows`. Its lock must be held."""

    def __init__(self, folder: Path) -> None:
        self._files = {part: _NamedFile(folder / f"{part}.sqlite", part) for part in _MIGRATIONS}

    async def open(self) -> None:
        """Open the files, and migrate them. Raises StorageError."""
        for file in self._files.values():
            await file.open()

    async def close(self) -> None:
        for file in self._files.values():
            await file.close()

    async def count(self, table: MovedTable) -> int:
        rows = await self._files[table.part].read(f"SELECT count(*) FROM ({_select(table)})")  # noqa: S608 — ours
        return int(rows[0][0])

    async def read(self, table: MovedTable) -> AsyncIterator[RowBatch]:
        file = self._files[table.part]
        cursor = await file.run(lambda: file.connection.execute(_select(table)))
        try:
            while rows := await file.run(lambda: cursor.fetchmany(table.batch)):
                yield rows
        finally:
            await file.run(cursor.close)  # in the thread of its connection

    async def write(self, table: MovedTable, rows: RowBatch) -> None:
        places = ",".join("?" * len(table.columns))
        await self._files[table.part].write(f"INSERT INTO {table.name} ({_names(table)}) VALUES ({places})", rows)  # noqa: S608 — ours

    async def newest_seq(self) -> int:
        return int((await self._files["journal"].read(_NEWEST))[0][0])

    async def continue_after(self, seq: int) -> None:
        await self._files["journal"].write("DELETE FROM sqlite_sequence WHERE name=?", [("entries",)])
        await self._files["journal"].write("INSERT INTO sqlite_sequence VALUES ('entries', ?)", [(seq,)])


def _select(table: MovedTable) -> str:
    return _USED if table.name == "used" else f"SELECT {_names(table)} FROM {table.name}"  # noqa: S608 — ours


def _names(table: MovedTable) -> str:
    return ", ".join(f'"{name}"' for name in table.columns)
