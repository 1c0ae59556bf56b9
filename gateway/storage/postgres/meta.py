"""What was fixed when a memory in a cluster was created: a document in the database, written once."""

from dataclasses import dataclass
from typing import Final

import orjson

from gateway.storage.errors import StorageError
from gateway.storage.postgres.documents import SharedDocument, run_in_thread

__all__ = ["ClusterMeta"]

_FORMAT: Final = 1
_PART: Final = "store"


@dataclass(slots=True)
class _Values:
    buckets: int
    embedder: str
    dimensions: int
    has_plain_ids: bool


class ClusterMeta:
    """The number of buckets, and the format of rows before the first rebuild; see `MemoryMeta`. Call `open` before
    use."""

    def __init__(self, url: str) -> None:
        self._document = SharedDocument(url, "memory")
        self._values = _Values(0, "", 0, has_plain_ids=False)

    @property
    def buckets(self) -> int:
        return self._values.buckets

    @property
    def embedder(self) -> str:
        return self._values.embedder

    @property
    def dimensions(self) -> int:
        return self._values.dimensions

    @property
    def has_plain_ids(self) -> bool:
        return self._values.has_plain_ids

    async def open(self, buckets: int, embedder: str, dimensions: int) -> None:
        """Read the values, or fix these if the memory is new. Raises StorageError."""
        new = {"format": _FORMAT, "buckets": buckets, "embedder": embedder, "dimensions": dimensions}
        await run_in_thread(lambda: self._document.create(orjson.dumps(new)), _PART)
        await self._load()

    async def note_plain_ids(self) -> None:
        """Note that some ids do not begin with the digits of their scope. Raises StorageError."""
        if self._values.has_plain_ids:
            return
        self._values.has_plain_ids = True
        fields = {"format": _FORMAT, "buckets": self.buckets, "embedder": self.embedder}
        fields |= {"dimensions": self.dimensions, "has_plain_ids": True}
        await run_in_thread(lambda: self._document.write(orjson.dumps(fields)), _PART)

    async def refresh(self) -> None:
        """Read what other replicas have noted. Raises StorageError."""
        await self._load()

    async def _load(self) -> None:
        try:
            content = await run_in_thread(self._document.read, _PART)
        except FileNotFoundError as error:
            raise StorageError(_PART, str(error), is_outage=True) from error
        try:
            fields = orjson.loads(content)
            if fields["format"] != _FORMAT:
                raise StorageError(_PART, f"the memory has format {fields['format']}; this version reads {_FORMAT}")
            plain = bool(fields.get("has_plain_ids", False))
            self._values = _Values(int(fields["buckets"]), str(fields["embedder"]), int(fields["dimensions"]), plain)
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(_PART, "the description of the memory in the database cannot be read") from error
