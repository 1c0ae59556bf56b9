"""Object storage (S3) as the place of LanceDB's tables: what is written is durable, and each request costs.

LanceDB's own time-outs add up to minutes; these are short, so that a storage that hangs delays nobody for long.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.storage import StorageConfig
from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import Catalog
from gateway.storage.lance.conditions import guarded
from gateway.storage.lance.connection import connecting
from gateway.storage.lance.place import Bucket
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import RowFormat

__all__ = ["ObjectPlace", "ObjectStorage", "object_storage"]

_CLIENT = {
    "timeout": "5s",
    "connect_timeout": "3s",
    "client_max_retries": "3",
    "client_retry_timeout": "10",  # seconds
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStorage:
    """An address `s3://bucket/prefix`, and how to reach it; what is None comes from the environment (`AWS_…`)."""

    uri: str
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    allow_http: bool = False

    def __repr__(self) -> str:
        return f"ObjectStorage(uri={self.uri!r})"

    @property
    def credentials(self) -> Mapping[str, str]:
        """Where it is and who may use it, as far as the configuration says so."""
        given = {
            "aws_endpoint": self.endpoint,
            "aws_region": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def options(self) -> Mapping[str, str]:
        """The options of LanceDB, and of the client of its storage."""
        return {**self.credentials, **_CLIENT, "allow_http": str(self.allow_http).lower()}


def object_storage(uri: str, config: StorageConfig) -> ObjectStorage:
    """The storage at an address, reached as it is configured."""
    return ObjectStorage(
        uri=uri.rstrip("/"),
        endpoint=config.endpoint,
        region=config.region,
        access_key=None if config.access_key is None else config.access_key.get_secret_value(),
        secret_key=None if config.secret_key is None else config.secret_key.get_secret_value(),
        allow_http=config.allow_http,
    )


class ObjectPlace:
    """A bucket, or a part of one; see `Place`. The catalog names its tables: they are never listed to be read."""

    is_lazy = True
    read_timeout: float | None = 15.0
    write_timeout: float | None = 20.0

    def __init__(self, storage: ObjectStorage, catalog: Catalog) -> None:
        self._storage = storage
        self._catalog = catalog
        self._database: Any = None

    @property
    def repaired(self) -> list[str]:
        """None: what was written whole cannot be torn."""
        return []

    async def connect(self) -> Any:
        connect = await asyncio.to_thread(connecting, self._storage.uri, self._storage.options)
        self._database = await connect()
        return self._database

    async def open(self, database: Any, buckets: int, first: RowFormat) -> dict[int, Bucket]:
        await self._catalog.refresh()
        return {number: Bucket(self._catalog.tables(number)) for number in range(buckets)}

    async def require(self) -> None:
        """Does nothing: an address cannot be moved away."""

    async def sync(self, since: float) -> None:
        """Does nothing: an object is durable when its writing returns."""

    async def probe(self) -> None:
        """Create a table and drop it: some ten requests, after a write has failed."""
        try:
            await guarded(self._create_and_drop(f"probe_{secrets.token_hex(8)}"), self.write_timeout)
        except StorageError as error:
            raise StorageError("store", str(error), is_outage=True) from error

    async def _create_and_drop(self, name: str) -> None:
        schema = (await asyncio.to_thread(to_arrow, [], 1)).schema
        await self._database.create_table(name, schema=schema)
        await self._database.drop_table(name, ignore_missing=True)

    async def mark_whole(self, name: str, rows: int) -> None:
        """Does nothing: the catalog has the rows, and a back-up of it belongs to one of the bucket."""
