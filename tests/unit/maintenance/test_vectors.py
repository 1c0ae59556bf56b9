import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.maintenance.vectors import encode_vectors, parse_vector
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row, RowFormat
from tests.fakes.made import SCOPE, record

FORMAT = RowFormat("e", 4, 2)
UNIT = np.asarray([0.5, -0.5, 0.5, -0.5], np.float32)


def encoded(vector: Any, kind: str = "<f4") -> str:
    return base64.b64encode(np.asarray(vector, kind).tobytes()).decode()


async def test_a_vector_is_written_and_read_bit_for_bit(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    await asyncio.to_thread(folder.open, 2, "e", 4)
    store = MemoryStore(folder, FORMAT)
    await store.open()
    odd = np.asarray([0.1, 0.2, 0.3, 0.92736185], np.float32)
    values: list[tuple[Any, str]] = [(UNIT, "e"), (odd, "e"), (None, "")]
    rows = [
        Row(record=record(f"text {number}", number), vector=vector, embedder=name, terms=(), tokens=1, seq=number)
        for number, (vector, name) in enumerate(values)
    ]
    await store.add(rows)
    first, second, third = encode_vectors(await store.load(SCOPE), [0, 1, 2], FORMAT)
    await store.close()
    folder.close()
    assert third == {}, "it has none"
    for fields, vector in ((first, UNIT), (second, odd)):
        given = parse_vector(fields["embedder"], fields["embedding"], FORMAT)
        assert given is not None
        assert given.vector.tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    ("embedder", "embedding"),
    [
        ("other", encoded(UNIT)),
        (None, encoded(UNIT)),
        (["e"], encoded(UNIT)),
        ("e", None),
        ("e", [0.5, -0.5, 0.5, -0.5]),
        ("e", ""),
        ("e", "no base64!"),
        ("e", "ünicode="),
        ("e", encoded(UNIT)[:-4]),
        ("e", encoded(UNIT, "<f8")),
        ("e", encoded([1, 0, 0])),
        ("e", encoded([0, 0, 0, 0])),
        ("e", encoded([2, 0, 0, 0])),
        ("e", encoded([float("nan"), 1, 0, 0])),
        ("e", encoded([float("inf"), 0, 0, 0])),
        ("e", encoded([3e38, 3e38, 3e38, 3e38])),
    ],
)
def test_a_vector_that_cannot_be_used_is_none(embedder: Any, embedding: Any) -> None:
    assert parse_vector(embedder, embedding, FORMAT) is None
