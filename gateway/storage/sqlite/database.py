"""One SQLite file with one thread that owns its connection: the base of the journal, the registry and others.

WAL mode with `synchronous=FULL`: commits survive a power cut. A transaction that fails for any reason is rolled back,
so that the next one can begin. Deleted rows are overwritten on the disk. A damaged file is moved aside, and its
readable rows are copied into a new one.

The schema is a list of migrations: the first creates it, each later one changes it by one version, which the file
records in `PRAGMA user_version`. Files from before that record (version 0) have the first version's tables, or earlier
ones: so a first migration creates only what is missing.
"""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from gateway.storage.errors import StorageError

__all__ = ["Database", "Migration", "Sharing"]

_T = TypeVar("_T")
_log = logging.getLogger("gateway.store")
_MAX_ROWID = 2**62
_MAX_CHECKED = 64 * 2**20  # bytes; smaller files are checked completely when they are opened

Migration = str | Callable[[sqlite3.Connection], None]
"""A step from one version of a schema to the next: statements, or a function that is called in a transaction."""


class Sharing(Enum):
    """How a process shares a file with others: not at all, as its owner, or as one of the others."""

    NONE = "none"
    OWNER = "owner"
    FOLLOWER = "follower"


class Database:
    """A SQLite file. `part` is its name in threads and messages; faults of SQLite or the disk are raised as
    StorageError.

    `open`, `close`, `run`, `read` and `write` are called in the loop, `connection` and `transaction` in the thread.
    With `is_owner` false, another process migrates the file, and replaces it if it is damaged.
    """

    def __init__(self, path: Path, part: str, migrations: Sequence[Migration], *, is_owner: bool = True) -> None:
        self._is_owner = is_owner
        self._path = path
        self._part = part
        self._migrations = migrations
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=part)
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError(f"the {self._part} is closed")
        return self._connection

    async def open(self) -> bool:
        """Create or open the file, and migrate it. False if it was open already. Raises StorageError, also for a file
        of a later version."""
        if self.is_open:
            return False
        await self.run(self._open)
        return True

    async def close(self) -> None:
        await self.run(self._close)
        self._thread.shutdown(wait=False)  # its last job is done

    async def run(self, job: Callable[[], _T]) -> _T:
        """Run a function in the thread that owns the connection. Raises StorageError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        except (sqlite3.Error, OSError, RuntimeError, OverflowError) as error:
            raise StorageError(self._part, str(error)) from error

    async def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises StorageError."""
        return await self.run(lambda: self.connection.execute(statement, values).fetchall())

    def transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in a transaction. Its result leaves the thread, and must never be a cursor."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    async def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute a statement for each row, all or none."""

        def work(connection: sqlite3.Connection) -> None:
            # the cursor is closed here, in the connection's thread: closed in another one, it would reset the statement
            # while the next caller binds its values to it
            connection.executemany(statement, rows)

        await self.run(lambda: self.transaction(work))

    async def scrub(self) -> None:
        """Erase remains of deleted rows from the files, also from the WAL."""
        await self.run(self._scrub)

    def _scrub(self) -> None:
        # waits some seconds for other processes
        is_busy = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise sqlite3.OperationalError(f"another program reads the {self._part}: it cannot be scrubbed now")

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = self._connect()
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError or not self._is_owner:
                raise  # locked, or the disk: the file itself may be whole
            self._connection = self._replace_damaged(str(error))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            self._migrate(connection)
            if self._is_owner and self._path.stat().st_size <= _MAX_CHECKED:
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self._migrations):
            raise StorageError(
                self._part, f"its file has version {version}; this version of the gateway reads {len(self._migrations)}"
            )
        if version < len(self._migrations) and not self._is_owner:
            raise StorageError(self._part, "its file is not migrated yet")
        for number, migration in enumerate(self._migrations[version:], start=version + 1):
            connection.execute("BEGIN IMMEDIATE")
            try:
                if isinstance(migration, str):
                    for statement in _split_statements(migration):
                        connection.execute(statement)
                else:
                    migration(connection)
                connection.execute(f"PRAGMA user_version={number}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _replace_damaged(self, cause: str) -> sqlite3.Connection:
        aside = self._path.with_name(f"{self._path.name}.broken-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        connection = self._connect()
        saved = _copy_rows(aside, connection)
        _log.error(
            "damaged_file_replaced", extra={"part": self._part, "aside": aside.name, "saved": saved, "cause": cause}
        )
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _split_statements(script: str) -> list[str]:
    """The statements of a script, each of which ends at the end of a line."""
    statements, lines = [], ""
    for line in script.splitlines(keepends=True):
        lines += line
        if sqlite3.complete_statement(lines):
            statements.append(lines)
            lines = ""
    return [*statements, lines] if lines.strip() else statements


def _copy_rows(damaged: Path, connection: sqlite3.Connection) -> int:
    """Copy the readable rows of a damaged file. Returns how many."""
    saved = 0
    source = sqlite3.connect(damaged)
    connection.execute("BEGIN")
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()]
        for name in names:
            if not name.startswith("sqlite_"):
                for row in _read_rows(source, name):
                    placeholders = ",".join("?" * len(row))
                    connection.execute(f"INSERT OR IGNORE INTO {name} VALUES ({placeholders})", row)  # noqa: S608 — a name of our own schema
                    saved += 1
    finally:
        connection.execute("COMMIT")
        source.close()
    return saved


def _read_rows(source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Read the readable rows of a table: from the front, from the back, and, where rows have numbers, between the two.
    Some rows may come twice."""
    first, last = 0, _MAX_ROWID
    for order in ("", "ORDER BY 1 DESC"):
        try:
            for row in source.execute(f"SELECT * FROM {table} {order}"):  # noqa: S608 — a name of our own schema
                if isinstance(row[0], int):
                    first, last = (max(first, row[0]), last) if not order else (first, row[0])
                yield row
        except sqlite3.DatabaseError:
            continue
        return
    if last < _MAX_ROWID:
        yield from _read_range(source, table, first + 1, last)


def _read_range(source: sqlite3.Connection, table: str, first: int, end: int) -> Iterator[tuple[Any, ...]]:
    """Read the readable rows numbered from `first` to before `end`: halves of an unreadable part are tried in turn."""
    if first >= end:
        return
    try:
        yield from source.execute(
            f"SELECT * FROM {table} WHERE rowid>=? AND rowid<?",  # noqa: S608 — a name of our own schema
            (first, end),
        ).fetchall()
    except sqlite3.DatabaseError:
        if end - first > 1:
            middle = (first + end) // 2
            yield from _read_range(source, table, first, middle)
            yield from _read_range(source, table, middle, end)
