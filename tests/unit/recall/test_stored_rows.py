"""A working set is filled from stored rows, or from rows that were just written: both must give the same set."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.memory.record import Record
from gateway.recall.query import make_query
from gateway.recall.rank import RankWeights
from gateway.recall.working_set import WorkingSet
from gateway.storage.lance.schema import to_arrow
from gateway.storage.rows import LoadedRows, Row
from gateway.text.terms import terms
from tests.fakes.made import record
from tests.unit.memory.test_annotations import annotated_records

WORDS = st.lists(st.sampled_from("cat dog tea boat rain Monday likes lives".split()), min_size=1, max_size=6)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    count = draw(st.integers(1, 8))
    stored = []
    for number in range(count):
        base = record(
            " ".join(draw(WORDS)),
            number,
            id=f"{number:032x}",
            kind=draw(st.sampled_from(["turn", "fact", "preference", "profile", "tool", "document"])),
            source=draw(st.sampled_from(["user", "assistant"])),
            session_id=draw(st.sampled_from(["s", "t"])),
            status=draw(st.sampled_from(["activated", "activated", "archived"])),
            part=draw(st.integers(0, 1)),
            links=tuple(f"{draw(st.integers(0, 7)):032x}" for _ in range(draw(st.integers(0, 2)))),
        )
        stored.append(build_row(annotate(base, draw(annotated_records())), number, draw(st.integers(1, 300))))
    return stored


def annotate(base: Record, source: Record) -> Record:
    names = ("about", "suspicious", "is_extracted", "is_correction", "details")
    fields: dict[str, Any] = {name: getattr(source, name) for name in names}
    predecessors = tuple(f"{number:032x}" for number in range(len(source.lineage.supersedes)))
    return replace(base, **fields, lineage=replace(source.lineage, supersedes=predecessors))


def build_row(memory: Record, number: int, tokens: int) -> Row:
    vector, words = np.zeros(4, np.float32), tuple(terms(memory.text))
    vector[number % 4] = 1
    return Row(record=memory, vector=vector, embedder="e", terms=words, tokens=tokens, form=number, worth=0.5)


def contents(working_set: WorkingSet) -> list[Any]:
    """Everything that a search can tell of a set."""
    vector, query = np.asarray([1, 0, 0, 0], np.float32), make_query("likes cat tea Monday", "", 1_700_000_000.0)
    results: list[Any] = [len(working_set), [memory.id for memory in working_set.records()]]
    for group in ("text", "preference", "tool", "chat"):
        memories = working_set.search(query.terms, vector, 20, RankWeights(), group=group)
        results += [(group, memory.record, round(memory.score, 4), round(memory.relativity, 4)) for memory in memories]
    candidates = working_set.candidates(query, vector, 20, RankWeights())
    results.append(np.nan_to_num(np.round(candidates.signals, 4), nan=-1e9).tolist())
    return [*results, [memory.record.id for memory in working_set.profile()]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows())
def test_loaded_and_new_rows_make_the_same_set(stored: list[Row]) -> None:
    live, loaded = WorkingSet(4, "e"), WorkingSet(4, "e")
    live.put(stored)
    loaded.fill(LoadedRows([to_arrow(stored, 4)]))
    assert contents(loaded) == contents(live)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows())
def test_rows_stored_without_flags_get_them_when_they_are_loaded(stored: list[Row]) -> None:
    table = to_arrow(stored, 4)
    index = table.schema.get_field_index("flags")
    import pyarrow as pa

    without = table.set_column(index, table.schema.field("flags"), pa.nulls(len(table), pa.int32()))
    assert LoadedRows([without]).flags().tolist() == LoadedRows([table]).flags().tolist()
    assert LoadedRows([without]).records() == LoadedRows([table]).records()
