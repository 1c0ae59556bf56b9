"""Vectors that come with records, until these are stored. They are in RAM only: a lost one costs an embedding."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.memory.record import Record
from gateway.storage.rows import RowFormat
from gateway.storage.values import GivenVector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GivenVectors"]


class GivenVectors:
    """Vectors by id and text of their records: a changed text is embedded."""

    def __init__(self) -> None:
        self._vectors: dict[tuple[str, str], GivenVector] = {}

    def __len__(self) -> int:
        return len(self._vectors)

    def put(self, records: Iterable[Record], vectors: Mapping[str, GivenVector]) -> None:
        """Add the vectors of records, by id."""
        for record in records if vectors else ():
            if record.id in vectors:
                self._vectors[record.id, record.text] = vectors[record.id]

    def drop(self, records: Iterable[Record]) -> None:
        """Drop the vectors of records that were stored, or failed."""
        if self._vectors:
            for record in records:
                self._vectors.pop((record.id, record.text), None)

    def find(
        self, records: Iterable[Record], format_of: Callable[[str], RowFormat]
    ) -> "dict[str, tuple[str, NDArray[np.float32] | None]]":
        """Embedder and vector of records by id, as far as they are of the embedder of their scopes' formats. An id
        with a record that has none is left out."""
        if not self._vectors:
            return {}
        vectors: dict[str, tuple[str, NDArray[np.float32] | None]] = {}
        missing: set[str] = set()
        for record in records:
            given = self._vectors.get((record.id, record.text))
            if given is not None and given.embedder == format_of(record.scope).embedder:
                vectors[record.id] = (given.embedder, given.vector)
            else:
                missing.add(record.id)
        return {id_: vector for id_, vector in vectors.items() if id_ not in missing}
