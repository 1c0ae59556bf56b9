"""A PostgreSQL database with one thread that owns a connection to it: the twin of the SQLite `Database`.

A lost connection is opened again by the next call. What was not committed for sure is repeated once, when a connection
breaks, or a few times, when transactions met each other. After a failure calls fail at once for a while, so that an
outage costs a request no time; then one of them tries to connect, and waits for a second at most. A server that neither
answers nor refuses (a frozen machine, a network that drops packets) is given up after `limit` seconds: the socket is
shut down, which wakes the thread.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg

from gateway.storage.errors import StorageError
from gateway.storage.postgres.causes import is_conflict, to_storage_error
from gateway.storage.postgres.connecting import (
    Connection,
    break_connection,
    connect,
    decode_rows,
    encode_values,
    translate,
)
from gateway.storage.postgres.schema import prepare_schema
from gateway.storage.sql.database import MAX_KEY_TEXT

__all__ = ["PostgresDatabase", "PostgresStatements"]

_T = TypeVar("_T")
_CALL_LIMIT: Final = 5.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0  # seconds without a new try after a failure
_RECONNECT_LIMIT: Final = 1.0  # seconds that a call waits for a connection after a failure
_TRIES: Final = 5  # of a transaction that meets others


class PostgresStatements:
    """A connection within a transaction, for statements in the common dialect."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]:
        return _execute(self._connection, statement, values)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(translate(statement).encode(), [encode_values(row) for row in rows])


class _Call:
    """A function that waits for the thread, runs in it, or has run."""

    __slots__ = ("is_running",)

    def __init__(self) -> None:
        self.is_running = False


class PostgresDatabase:
    """A PostgreSQL database. `part` is its name in threads and messages; all failures are StorageErrors.

    `open`, `close`, `run`, `read` and `write` are called in the loop, `connection` and `transaction` in the thread.
    """

    def __init__(self, url: str, part: str, *, limit: float = _CALL_LIMIT) -> None:
        self._url = url
        self._part = part
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=part)
        self._connection: Connection | None = None
        self._listening: Connection | None = None  # the one that has asked for notifications
        self._is_open = False
        self._pause = _FIRST_PAUSE
        self._next_try = 0.0
        self._is_broken = False  # by a call that gave up
        self._is_away = False  # since the last failure there was no connection
        self._jobs: set[Future[Any]] = set()  # those that the thread has not finished

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def max_text(self) -> int | None:
        """The number of characters that a text of unlimited length may have in a key."""
        return MAX_KEY_TEXT

    @property
    def connection(self) -> Connection:
        """The connection, which is opened if there is none. Raises psycopg.Error and StorageError."""
        if not self._is_open:
            raise StorageError(self._part, f"the {self._part} is closed")
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    async def open(self) -> bool:
        """Connect, and create or check the tables. False if it was open already. Raises StorageError."""
        if self._is_open:
            return False
        await self.run(self._open, limit=60.0)  # the tables may be created, or another gateway is creating them
        return True

    async def close(self) -> None:
        with contextlib.suppress(StorageError):
            await self._run_in_thread(self._close, 0.0 if self._is_away else self._limit)
        self._is_open = False
        self._thread.shutdown(wait=False)

    async def run(self, job: Callable[[], _T], *, limit: float | None = None) -> _T:
        """Run a function in the thread that owns the connection, within `limit` seconds. Raises StorageError."""
        if self._is_away and self._jobs:  # another call tries to connect
            raise self._unreachable()
        return await self._run_in_thread(job, self._limit if limit is None else limit)

    async def _run_in_thread(self, job: Callable[[], _T], limit: float) -> _T:
        call = _Call()
        try:
            submitted = self._thread.submit(self._run, job, call)
        except RuntimeError as error:  # the thread has ended
            raise StorageError(self._part, f"the {self._part} is closed") from error
        self._jobs.add(submitted)
        submitted.add_done_callback(self._jobs.discard)
        future = asyncio.wrap_future(submitted)
        try:
            async with asyncio.timeout(limit):
                if self._is_away and await self._waits_in_vain(future):
                    raise self._unreachable()
                return await future
        except TimeoutError:
            future.cancel()  # its error, if there is one, is of no interest
            if call.is_running:
                self._break()
            raise StorageError(self._part, "the database does not answer", is_outage=True) from None

    async def _waits_in_vain(self, future: "asyncio.Future[Any]") -> bool:
        """True if a call got no connection within a second. The thread goes on to try, for the sake of later calls."""
        await asyncio.wait([future], timeout=_RECONNECT_LIMIT)
        if future.done() or not self._is_away:
            return False
        future.cancel()
        return True

    async def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises StorageError."""
        return await self.run(lambda: self.repeat(lambda connection: _execute(connection, statement, values)))

    async def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute a statement for each row, all or none. Raises StorageError."""
        if not rows:
            return
        await self.run(lambda: self.transaction(lambda statements: statements.executemany(statement, rows)))

    async def scrub(self) -> None:
        """Do nothing: PostgreSQL reuses the space of deleted rows after a VACUUM, which is the operator's."""

    def wait_for_notification(self, channel: str, seconds: float) -> None:
        """Wait for a notification on a channel, at most some seconds; always the same one. Runs in the thread."""
        connection = self.connection
        if self._listening is not connection:
            connection.execute(f"LISTEN {channel}".encode())
            self._listening = connection
        for _ in connection.notifies(timeout=seconds, stop_after=1):
            pass

    def transaction(self, work: Callable[[PostgresStatements], _T]) -> _T:
        """Run `work` in a transaction, again if it met another one, or if the connection was lost before the commit."""
        return self.repeat(lambda connection: self._run_transaction(connection, work))

    def repeat(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work`, which may be repeated, with a connection. Raises psycopg.Error and StorageError."""
        tries = 0
        while True:
            connection = self.connection
            tries += 1
            try:
                return work(connection)
            except psycopg.Error as error:
                is_lost = connection.closed and tries == 1 and not self._is_broken
                if not (is_lost or (is_conflict(error) and tries < _TRIES)):
                    raise
                if not is_lost:
                    time.sleep(0.005 * tries)  # in the thread: the other transaction ends

    def _run_transaction(self, connection: Connection, work: Callable[[PostgresStatements], _T]) -> _T:
        connection.execute("BEGIN")
        try:
            result = work(PostgresStatements(connection))
        except BaseException:
            if not connection.closed:
                connection.execute("ROLLBACK")
            raise
        try:
            connection.execute("COMMIT")
        except psycopg.OperationalError:
            if connection.closed:  # whether it took place is not known: it must not be repeated here
                raise StorageError(self._part, "the connection was lost in a commit", is_outage=True) from None
            raise
        return result

    def _unreachable(self) -> StorageError:
        return StorageError(self._part, "the database cannot be reached", is_outage=True)

    # All methods below run in the thread, but `_break`.

    def _run(self, job: Callable[[], _T], call: _Call) -> _T:
        call.is_running = True
        try:
            result = job()
        except psycopg.Error as error:
            if self._connection is not None and self._connection.closed:
                self._note_failure()
            raise to_storage_error(self._part, error) from None
        finally:
            call.is_running = False
        return result

    def _open(self) -> None:
        self._is_open = True
        try:
            prepare_schema(self.connection)
        except BaseException:
            self._is_open = False
            self._close()
            raise

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        if time.monotonic() < self._next_try:
            raise self._unreachable()
        self._connection, self._is_broken = None, False
        try:
            connection = connect(self._url)
        except psycopg.Error:
            self._note_failure()
            raise
        self._pause, self._next_try, self._is_away = _FIRST_PAUSE, 0.0, False
        return connection

    def _note_failure(self) -> None:
        self._is_away = True
        self._next_try = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _break(self) -> None:
        """Let the call that waits for the server fail. Called in the loop."""
        connection = self._connection
        if connection is not None:
            self._is_broken = True
            break_connection(connection)


def _execute(connection: Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    cursor = connection.execute(translate(statement).encode(), encode_values(values))
    return decode_rows(cursor.fetchall()) if cursor.description is not None else []
