"""One SQLite file with one thread that owns its connection: what the journal and the registry stand on.

WAL mode with `synchronous=FULL`: what was committed survives a power cut. A transaction that fails is rolled back,
whatever the reason, so that the next one can begin.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

__all__ = ["SqliteFile"]

_T = TypeVar("_T")


class SqliteFile:
    """`name` is for threads and messages; `failure` is what every fault of SQLite or the disk is raised as.

    `run` is called in the loop, `connection` and `transaction` in the thread.
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
        except (sqlite3.Error, OSError, RuntimeError) as error:
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

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(self._schema)
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
