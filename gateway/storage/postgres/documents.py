"""Small documents that all gateways of a cluster share: `SmallFile` on a table."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from gateway.storage.errors import StorageError
from gateway.storage.postgres.causes import to_storage_error
from gateway.storage.postgres.connecting import connected, translate

__all__ = ["SharedDocument", "run_in_thread"]

_T = TypeVar("_T")

_PATIENCE: Final = 5.0  # seconds
_READ: Final = "SELECT content FROM documents WHERE name=?"
_CREATE: Final = "INSERT INTO documents VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
_DELETE: Final = "DELETE FROM documents WHERE name=?"
_WRITE: Final = "INSERT INTO documents VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content=excluded.content"


class SharedDocument:
    """A document that is read and replaced as a whole. It is used seldom: each call has a connection of its own. The
    tables are there: another part of the storage was opened before."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name

    @property
    def name(self) -> str:
        return f"{self._name} in the database"

    def read(self) -> bytes:
        """Blocks: call it in a thread. Raises OSError, and FileNotFoundError if it was never written."""
        row = self._execute(_READ, (self._name,))
        if row is None:
            raise FileNotFoundError(f"{self.name} was never written")
        return bytes(row[0])

    def create(self, content: bytes) -> None:
        """Write it, durably, if it was never written. Blocks: call it in a thread. Raises OSError."""
        self._execute(_CREATE, (self._name, content))

    def write(self, content: bytes) -> None:
        """Replace it, durably. Blocks: call it in a thread. Raises OSError."""
        self._execute(_WRITE, (self._name, content))

    def delete(self) -> None:
        """Delete it, if it was ever written. Blocks: call it in a thread. Raises OSError."""
        self._execute(_DELETE, (self._name,))

    def _execute(self, statement: str, values: tuple[object, ...]) -> tuple[bytes, ...] | None:
        try:
            with connected(self._url, _PATIENCE) as connection:
                cursor = connection.execute(translate(statement).encode(), values)
                return cursor.fetchone() if cursor.description is not None else None
        except psycopg.Error as error:
            raise OSError(str(to_storage_error("store", error))) from None


async def run_in_thread(job: Callable[[], _T], part: str) -> _T:
    """Run a call of a document for a part of the storage. Raises StorageError, and FileNotFoundError."""
    try:
        return await asyncio.to_thread(job)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(part, str(error), is_outage=True) from error
