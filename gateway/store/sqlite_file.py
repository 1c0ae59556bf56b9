"""One SQLite file with one thread that owns its connection: what the journal and the registry stand on.

WAL mode with `synchronous=FULL`: what was committed survives a power cut. A transaction that fails is rolled back,
whatever the reason, so that the next one can begin. What is deleted is overwritten on the disk. A file that is damaged
is moved aside, and what can still be read of it goes into a new one.
"""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["SqliteFile"]

_T = TypeVar("_T")
_log = logging.getLogger("gateway.store")
_LAST = 2**62
_CHECKED = 64 * 2**20  # bytes of a file that is looked through whole when it is opened


class SqliteFile:
    """`name` is for threads and messages; `failure` is what every fault of SQLite or the disk is raised as.

    `run` and `write` are called in the loop, `connection` and `transaction` in the thread.
    """

    def __init__(self, path: Path, schema: str, name: str, failure: type[Exception]) -> None:
        self._path = path
        self._schema = schema
        self._name = name
        self._failure = failure
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError(f"the {self._name} is closed")
        return self._connection

    async def open(self) -> None:
        await self.run(self._open)

    async def close(self) -> None:
        await self.run(self._close)
        self._thread.shutdown(wait=False)  # its last job is done

    async def run(self, job: Callable[[], _T]) -> _T:
        """Do something in the thread that owns the connection."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        except (sqlite3.Error, OSError, RuntimeError, OverflowError) as error:
            raise self._failure(str(error)) from error

    def transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do all of it or nothing. What `work` returns leaves the thread: never a cursor."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            made = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return made

    async def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Do one statement for each row, for all or none."""

        def work(connection: sqlite3.Connection) -> None:
            # the cursor ends here, in the connection's thread: one that ended elsewhere would reset the statement
            # while the next caller binds its values to it
            connection.executemany(statement, rows)

        await self.run(lambda: self.transaction(work))

    async def scrub(self) -> None:
        """Leave nothing of what was deleted in the files."""
        await self.run(self._scrub)

    def _scrub(self) -> None:
        is_busy = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise sqlite3.OperationalError(f"another program reads the {self._name}: it cannot be scrubbed now")

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = self._connected()
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # locked, or the disk: the file itself may be whole
            self._connection = self._begun_anew(str(error))

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.executescript(self._schema)
            if self._path.stat().st_size <= _CHECKED:
                found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begun_anew(self, cause: str) -> sqlite3.Connection:
        aside = self._path.with_name(f"{self._path.name}.broken-{int(time.time())}")
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{ending}").replace(f"{aside}{ending}")
        connection = self._connected()
        saved = _copied(aside, connection)
        _log.error(
            "damaged_file_replaced", extra={"part": self._name, "aside": aside.name, "saved": saved, "cause": cause}
        )
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _copied(damaged: Path, connection: sqlite3.Connection) -> int:
    """Copy the rows that can be read. Returns how many."""
    saved = 0
    source = sqlite3.connect(damaged)
    connection.execute("BEGIN")
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()]
        for name in names:
            if not name.startswith("sqlite_"):
                for row in _readable(source, name):
                    places = ",".join("?" * len(row))
                    connection.execute(f"INSERT OR IGNORE INTO {name} VALUES ({places})", row)  # noqa: S608 — a name of our own schema
                    saved += 1
    finally:
        connection.execute("COMMIT")
        source.close()
    return saved


def _readable(source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table that can be read: from the front, from the back, and, where rows have numbers, what stands
    between. Some may come twice."""
    first, last = 0, _LAST
    for order in ("", "ORDER BY 1 DESC"):
        try:
            for row in source.execute(f"SELECT * FROM {table} {order}"):  # noqa: S608 — a name of our own schema
                if isinstance(row[0], int):
                    first, last = (max(first, row[0]), last) if not order else (first, row[0])
                yield row
        except sqlite3.DatabaseError:
            continue
        return
    if last < _LAST:
        yield from _between(source, table, first + 1, last)


def _between(source: sqlite3.Connection, table: str, first: int, end: int) -> Iterator[tuple[Any, ...]]:
    """The readable rows numbered from `first` to before `end`: where a part cannot be read, its halves are tried."""
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
            yield from _between(source, table, first, middle)
            yield from _between(source, table, middle, end)
