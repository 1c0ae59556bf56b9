"""A catalog that several stores of one test share, as replicas share a database."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import Entries

__all__ = ["CatalogDatabase", "FixedMeta", "SharedCatalog"]


@dataclass(slots=True)
class CatalogDatabase:
    """What the replicas share: the tables by bucket, the replica that owns all buckets, and since when."""

    buckets: dict[int, Entries] = field(default_factory=dict)
    owner: str = ""
    epoch: int = 1

    def give_to(self, name: str) -> None:
        """Let another replica own all buckets."""
        self.owner = name
        self.epoch += 1


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
    """What one replica knows of the shared catalog. `believed_epoch`: above 0 while it does not know
    yet that it lost the buckets."""

    def __init__(self, database: CatalogDatabase, name: str = "") -> None:
        self.believed_epoch = 0
        self.database = database
        self._name = name
        self._known: dict[int, Entries] = {}

    def tables(self, bucket: int) -> Entries:
        return self._known.get(bucket, ())

    @property
    def names(self) -> set[str]:
        return {entry.name for entries in self._known.values() for entry in entries}

    def owns(self, bucket: int) -> bool:
        return self.epoch(bucket) > 0

    def epoch(self, bucket: int) -> int:
        if self._name == self.database.owner:
            return self.database.epoch
        return self.believed_epoch

    async def refresh(self, bucket: int | None = None) -> None:
        if bucket is None:
            self._known = dict(self.database.buckets)
        else:
            self._known[bucket] = self.database.buckets.get(bucket, ())

    async def switch(self, buckets: Mapping[int, Entries]) -> None:
        if self.database.owner != self._name:
            raise StorageError("store", "the lease of this part of the memory was lost")
        self.database.buckets.update(buckets)
        self._known.update(buckets)
