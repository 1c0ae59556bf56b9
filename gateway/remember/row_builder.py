"""Builds the rows of journal entries: the vectors of their texts, search terms, length, form and worth."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from gateway.concurrency.offload import offload
from gateway.embedding.kinds import Embedders
from gateway.remember.measure import Measures, measure, text_to_embed
from gateway.storage.rows import Row, RowFormat
from gateway.storage.values import JournalEntry

if TYPE_CHECKING:
    from gateway.embedding.embedders import Vectors

__all__ = ["RowBuilder"]

_PART = 64  # entries that are embedded together
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
        parts = [entries[begin : begin + _PART] for begin in range(0, len(entries), _PART)]
        rows: list[Row] = []
        measures = await self._measure(parts[0] if parts else ())
        for part, following in zip_longest(parts, parts[1:], fillvalue=()):
            texts = [text_to_embed(entry.record, each) for entry, each in zip(part, measures, strict=True)]
            # the embedder leaves the interpreter's lock to the measuring of what follows
            vectors, next_measures = await asyncio.gather(self._embed(part, texts), self._measure(following))
            values = zip(part, vectors, measures, strict=True)
            rows += [_build_row(entry, name, vector, each) for entry, (name, vector), each in values]
            measures = next_measures
        return rows

    async def _measure(self, entries: Sequence[JournalEntry]) -> list[Measures]:
        size = sum(len(entry.record.text) for entry in entries)
        return await offload(lambda: [measure(entry.record, self._count) for entry in entries], size)

    def fits(self, row: Row) -> bool:
        """True if a row has the format of its bucket, which may have been rebuilt for another embedder since."""
        return row.embedder == self._format_of(row.record.scope).embedder

    async def probe(self) -> None:
        """Check that the embedder works. Raises EmbedFailed."""
        await self._embedders.current.embed_documents([_PROBE])

    async def _embed(self, entries: Sequence[JournalEntry], texts: Sequence[str]) -> "list[tuple[str, Vectors | None]]":
        """The vectors of entries' texts, each with the name of its embedder, which is the one of its bucket."""
        vectors: list[tuple[str, Vectors | None]] = [("", None)] * len(entries)
        by_embedder: dict[str, list[int]] = {}
        for index, (entry, text) in enumerate(zip(entries, texts, strict=True)):
            name = self._format_of(entry.record.scope).embedder
            if entry.vector is not None and entry.vector.embedder == name:
                vectors[index] = (name, entry.vector.vector)
            elif text:
                by_embedder.setdefault(name, []).append(index)
        for name, indexes in by_embedder.items():
            embedder = self._embedders.named(name)
            if embedder is None:  # of an earlier configuration: lexical search only, until rebuilt
                continue
            embedded = await embedder.embed_documents([texts[index] for index in indexes])
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
