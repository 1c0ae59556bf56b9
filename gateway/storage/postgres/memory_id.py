"""The id of the memory in a database: a document that is written once."""

from typing import Final

import orjson
import psycopg

from gateway.storage.errors import StorageError
from gateway.storage.place_mark import MemoryId
from gateway.storage.postgres.causes import to_storage_error
from gateway.storage.postgres.connecting import connected, translate
from gateway.storage.postgres.documents import SharedDocument, run_in_thread
from gateway.storage.postgres.schema import read_version

__all__ = ["create_memory_id", "read_memory_id"]

_PATIENCE: Final = 15.0  # seconds
_NAME: Final = "id"
_READ: Final = """
SELECT (SELECT content FROM documents WHERE name=?), EXISTS (SELECT 1 FROM catalog WHERE tables<>'[]')
"""


def read_memory_id(database_url: str) -> MemoryId:
    """The id, also of a database without tables. Blocks. Raises StorageError."""
    try:
        with connected(database_url, _PATIENCE) as connection:
            if not read_version(connection).format:
                return MemoryId()
            row = connection.execute(translate(_READ).encode(), (_NAME,)).fetchone()
    except psycopg.Error as error:
        raise to_storage_error("store", error) from None
    if row is None or row[0] is None:
        return MemoryId(None, row is not None and row[1])
    try:
        return MemoryId(str(orjson.loads(row[0])["id"]), row[1])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError("store", "the id of the memory in the database cannot be read") from error


async def create_memory_id(database_url: str, memory_id: str) -> None:
    """Write the id, unless there is one. The tables are there. Raises StorageError."""
    document = SharedDocument(database_url, _NAME)
    await run_in_thread(lambda: document.create(orjson.dumps({"id": memory_id})), "store")
