"""Builds the rows of journal entries: the vectors of their texts, search terms, length, form and worth."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.concurrency.offload import offload
from gateway.embedding.kinds import Embedders
from gateway.memory.record import Record
from gateway.remember.measure import Measures, measure
from gateway.storage.rows import Row, RowFormat
from gateway.storage.values import JournalEntry

if TYPE_CHECKING:
    from gateway.embedding.embedders import Vectors

__all__ = ["RowBuilder"]

_PROBE = "Is anybody there?"


class RowBuilder:
    """Builds rows. `format_of` gives the format of a scope's rows; `count` counts tokens."""

    def __init__(
        self, embedders: Embedders, format_of: Callable[[str], RowFormat], count: Callable[[str], int]
    ) -> None:
        self._embedders = embedders
        self._format_of = format_of
        self._count = count

    async def build(self, entries: Sequence[JournalEntry]) -> list[Row]:
        """The rows of entries, in their order. Raises EmbedFailed."""
        records = [entry.record for entry in entries]
        size = sum(len(record.text) for record in records)
        all_measures, vectors = await asyncio.gather(
            offload(lambda: [measure(record, self._count) for record in records], size), self._embed(records)
        )
        return [
            _build_row(entry, name, vector, measures)
            for entry, (name, vector), measures in zip(entries, vectors, all_measures, strict=True)
        ]

    async def probe(self) -> None:
        """Check that the embedder works. Raises EmbedFailed."""
        await self._embedders.current.embed_documents([_PROBE])

    async def _embed(self, records: Sequence[Record]) -> "list[tuple[str, Vectors | None]]":
        """The vector of each record with the name of its embedder, which is the one of its bucket."""
        vectors: list[tuple[str, Vectors | None]] = [("", None)] * len(records)
        by_embedder: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            if record.text.strip():  # a deletion has no text, and embedders reject empty texts
                by_embedder.setdefault(self._format_of(record.scope).embedder, []).append(index)
        for name, indexes in by_embedder.items():
            embedder = self._embedders.named(name)
            if embedder is None:  # of an earlier configuration: lexical search only, until rebuilt
                continue
            embedded = await embedder.embed_documents([records[index].text for index in indexes])
            for index, vector in zip(indexes, embedded, strict=True):
                vectors[index] = (name, vector)
        return vectors


def _build_row(entry: JournalEntry, embedder: str, vector: "Vectors | None", measures: Measures) -> Row:
    return Row(
        record=entry.record,
        vector=vector,
        embedder=embedder,
        terms=measures.terms,
        tokens=measures.tokens,
        seq=entry.seq,
        form=measures.form,
        worth=measures.worth,
    )
