"""The numbers of memories of scopes, as the store counts them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.identity import scope_of
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row, RowFormat
from gateway.storage.values import ScopeSize
from tests.fakes.made import record

ADA, BOB, CARL = (scope_of("t", name).value for name in ("ada", "bob", "carl"))
FIRST = record("").event_time


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    opened = DataFolder(tmp_path / "data")
    opened.open(2, "e", 4)
    yield opened
    opened.close()


@pytest.fixture
async def store(folder: DataFolder) -> AsyncIterator[MemoryStore]:
    opened = MemoryStore(folder, RowFormat("e", 4, 2))
    await opened.open()
    yield opened
    await opened.close()


def row(number: int, scope: str = ADA, **fields: Any) -> Row:
    vector = np.full(4, 0.5, np.float32)
    memory = record(f"text {number}", number, scope=scope, **fields)
    return Row(record=memory, vector=vector, embedder="e", terms=("a",), tokens=7, seq=number)


async def test_only_valid_memories_of_these_scopes_count(store: MemoryStore) -> None:
    assert await store.sizes([ADA]) == {}
    await store.add([row(0), row(1), row(2, status="archived"), row(3, BOB), row(4, CARL)])
    assert await store.sizes([ADA, BOB, "0" * 64]) == {
        ADA: ScopeSize(2, FIRST + 120),
        BOB: ScopeSize(1, FIRST + 180),
    }
    assert await store.sizes([]) == {}


async def test_the_newest_version_of_a_memory_counts_also_in_another_table(store: MemoryStore) -> None:
    rows = [row(number) for number in range(4)]
    await store.add(rows)
    later: dict[str, Any] = {"version": 2, "updated_at": FIRST + 900}
    await store.add([row(9, id=rows[0].record.id, status="archived", **later)])
    for number in store.buckets.by_number:
        await store.rebuilder.purge(number)  # the rows are in a settled table now
    await store.add([row(10, id=rows[1].record.id, status="deleted", **later), row(11, id=rows[2].record.id, **later)])
    assert await store.sizes([ADA]) == {ADA: ScopeSize(2, FIRST + 900)}


@pytest.mark.parametrize("scope", ["' OR 1=1 --", "", "A" * 64])
async def test_a_scope_that_is_none_is_refused(store: MemoryStore, scope: str) -> None:
    with pytest.raises(ValueError, match=r"hex|base 16"):
        await store.sizes([scope])
