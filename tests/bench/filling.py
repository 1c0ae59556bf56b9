"""Data folders filled with memories straight through the product's own store, tables settled.

`python -m tests.bench.filling TEXTS JSON`, where JSON names folders, and in each the users with the number of their
memories; of that many TEXTS vectors are computed. The first memories of a user are messages of the evaluation corpus
with their vectors. The others are made of the sentences of these messages and of invented names; their vectors are
mixtures of the messages' vectors with some noise, since embedding hundreds of thousands of texts would take an hour.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway.embedding.embedders import LocalEmbedder
from gateway.identity import scope_of
from gateway.memory.record import memory_id
from gateway.prompt.tokens import DEFAULT_ENCODING, Tokenizer
from gateway.remember.measure import Measures, measure
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row, RowFormat
from gateway.text.terms import TERMS_VERSION, stored_terms
from gateway.turn import Record, Scope
from tests.bench.texts import Texts, corpus_messages, corpus_sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BUCKETS = 16
_BATCH = 5_000
_NAMES = 20_000
_NOISE = 0.25  # length of the noise in a mixture, relative to the mixture
_FIRST_TIME = 1_700_000_000.0
_SECONDS_BETWEEN = 60.0
ROW_FORMAT = RowFormat(LocalEmbedder.name, LocalEmbedder.dimensions, TERMS_VERSION)


class Material:
    """The texts, vectors and measures that memories are made of."""

    def __init__(self, count: int, tokenizers: Path) -> None:
        tokenizer = Tokenizer(tokenizers)
        tokenizer.load()
        self._count_tokens = lambda text: tokenizer.count(text, DEFAULT_ENCODING)
        self.messages = list(corpus_messages())[:count]
        made = Texts("messages")
        self.messages += [("user", made.note()) for _ in range(count - len(self.messages))]
        self.vectors = embed([text for _, text in self.messages])
        self.measures = [self._measure(role, text) for role, text in self.messages]
        sentences = [
            (number, sentence)
            for number, (_, text) in enumerate(self.messages)
            for sentence in corpus_sentences(text)
            if 12 <= len(sentence) <= 300
        ]
        self.origins = np.array([number for number, _ in sentences])
        self.sentences = [sentence for _, sentence in sentences]
        self.sentence_measures = [self._measure("user", sentence) for sentence in self.sentences]
        names = [made.invented_name() for _ in range(_NAMES)]
        self.names = [(name, tuple(stored_terms(name, _FIRST_TIME))) for name in names]

    def _measure(self, role: str, text: str) -> Measures:
        return measure(build_record(scope_of("default", "x"), 0, role, text), self._count_tokens)


def build_record(scope: Scope, number: int, role: str, text: str) -> Record:
    at = _FIRST_TIME + number * _SECONDS_BETWEEN
    return Record(
        id=memory_id(scope.value, "bench", str(number)),
        scope=scope.value,
        cube_id=scope.cube_id,
        user_id=scope.cube_id,
        session_id=f"s{number // 20}",
        kind="turn",
        source="assistant" if role == "assistant" else "user",
        text=text,
        event_time=at,
        created_at=at,
        updated_at=at,
    )


def embed(texts: Sequence[str]) -> "NDArray[np.float32]":
    """The vectors of texts, computed in one process per processor."""
    workers = min(4, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(_embed_part, [list(texts[part::workers]) for part in range(workers)])))[
            np.argsort(np.concatenate([np.arange(part, len(texts), workers) for part in range(workers)]))
        ]


def _embed_part(texts: list[str]) -> "NDArray[np.float32]":
    async def compute() -> "NDArray[np.float32]":
        embedder = LocalEmbedder()
        await embedder.start()
        try:
            return await embedder.embed_documents(texts)
        finally:
            await embedder.stop()

    return asyncio.run(compute())


def rows_of(material: Material, scope: Scope, numbers: range, random: np.random.Generator) -> list[Row]:
    """The memories of a user with these numbers."""
    rows = []
    for number in numbers:
        if number < len(material.messages):
            role, text = material.messages[number]
            measures, vector = material.measures[number], material.vectors[number]
            terms, tokens = measures.terms, measures.tokens
        else:
            role, text, terms, tokens, measures, vector = _mixture(material, random)
        rows.append(
            Row(
                record=build_record(scope, number, role, text),
                vector=vector,
                embedder=ROW_FORMAT.embedder,
                terms=terms,
                tokens=tokens,
                form=measures.form,
                worth=measures.worth,
            )
        )
    return rows


def _mixture(material: Material, random: np.random.Generator) -> tuple[Any, ...]:
    """A memory of one to three sentences and an invented name: role, text, terms, tokens, measures, vector."""
    parts = random.integers(0, len(material.sentences), random.integers(1, 4))
    name, name_terms = material.names[int(_NAMES * random.random() ** 3)]  # some names come much more often
    text = " ".join([material.sentences[part] for part in parts] + [name])
    measures = [material.sentence_measures[part] for part in parts]
    terms = tuple(term for each in measures for term in each.terms) + name_terms
    vector = material.vectors[material.origins[parts]].sum(axis=0)
    noise = random.standard_normal(len(vector), np.float32)
    vector = vector / np.linalg.norm(vector) + noise * (_NOISE / np.linalg.norm(noise))
    role = "assistant" if random.random() < 0.5 else "user"
    return role, text, terms, sum(each.tokens for each in measures) + 2, measures[0], vector / np.linalg.norm(vector)


async def fill(material: Material, path: Path, users: dict[str, int]) -> None:
    """Write the memories of users into a new data folder, and settle its tables."""
    folder = DataFolder(path)
    folder.open(_BUCKETS, ROW_FORMAT.embedder, ROW_FORMAT.dimensions)
    store = MemoryStore(folder, ROW_FORMAT)
    await store.open()
    random = np.random.default_rng(1)
    for user, count in users.items():
        scope = scope_of("default", user)
        for begin in range(0, count, _BATCH):
            await store.add(rows_of(material, scope, range(begin, min(count, begin + _BATCH)), random))
    async for _ in store.maintain():
        pass
    await store.sync()
    await store.close()
    folder.close()


def main() -> None:
    count, folders = int(sys.argv[1]), json.loads(sys.argv[2])
    material = Material(count, Path(next(iter(folders))).parent / "tokenizers")
    for folder, users in folders.items():
        asyncio.run(fill(material, Path(folder), users))


if __name__ == "__main__":
    main()
