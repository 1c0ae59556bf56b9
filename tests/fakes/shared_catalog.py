"""A catalog that several stores of one test share, as replicas share a database."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import Entries

__all__ = ["CatalogDatabase", "FixedMeta", "SharedCatalog"]


@dataclass(slots=True)
class CatalogDatabase:
    """What the replicas share: the tables by bucket, and the replica that owns each bucket."""

    buckets: dict[int, Entries] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class FixedMeta:
    """What is fixed of a memory."""

    buckets: int = 2
    embedder: str = "e"
    dimensions: int = 4
    has_plain_ids: bool = False

    async def note_plain_ids(self) -> None:
        self.has_plain_ids = True


class SharedCatalog:
    """What one replica knows of the shared catalog. `believes_to_own`: it does not know yet that it lost a bucket.
    Counts its refreshes."""

    def __init__(self, database: CatalogDatabase, name: str = "") -> None:
        self.believes_to_own = False
        self.refreshes = 0
        self.database = database
        self._name = name
        self._known: dict[int, Entries] = {}

    def tables(self, bucket: int) -> Entries:
        return self._known.get(bucket, ())

    @property
    def names(self) -> set[str]:
        return {entry.name for entries in self._known.values() for entry in entries}

    def owns(self, bucket: int) -> bool:
        return self.believes_to_own or self.database.owners.get(bucket, "") == self._name

    async def refresh(self, bucket: int | None = None) -> None:
        self.refreshes += 1
        if bucket is None:
            self._known = dict(self.database.buckets)
        else:
            self._known[bucket] = self.database.buckets.get(bucket, ())

    async def switch(self, buckets: Mapping[int, Entries]) -> None:
        if any(self.database.owners.get(bucket, "") != self._name for bucket in buckets):
            raise StorageError("store", "the lease of this part of the memory was lost")
        self.database.buckets.update(buckets)
        self._known.update(buckets)
