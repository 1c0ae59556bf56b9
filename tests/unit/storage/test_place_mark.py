"""Which databases and places belong together."""

import pytest

from gateway.storage.place_mark import MemoryId, explain_mismatch

PLACE = "s3://bucket/memory"


@pytest.mark.parametrize(
    ("memory", "mark"),
    [
        (MemoryId(), None),  # both are new
        (MemoryId("a"), "a"),
        (MemoryId("a", has_tables=True), "a"),
        (MemoryId("a"), None),  # a gateway was killed before it marked the place
        (MemoryId(has_tables=True), None),  # of an earlier version
        (MemoryId(has_tables=True), "a"),  # restored from the time of an earlier version
    ],
)
def test_a_memory_is_at_its_place(memory: MemoryId, mark: str | None) -> None:
    assert explain_mismatch(PLACE, memory, mark) == ""


@pytest.mark.parametrize("memory", [MemoryId(), MemoryId("b"), MemoryId("b", has_tables=True)])
def test_the_place_of_another_memory_is_refused(memory: MemoryId) -> None:
    text = explain_mismatch(PLACE, memory, "a")
    assert text.startswith("s3://bucket/memory has the memory of another database")
    assert "gateway.json" in text


def test_a_place_without_the_tables_of_the_memory_is_refused() -> None:
    text = explain_mismatch(PLACE, MemoryId("a", has_tables=True), None)
    assert "need the same `memory.uri`" in text
    assert "gateway.json is missing" in text
