from dataclasses import fields, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.memory.annotations import (
    ANNOTATED,
    DEFAULTS,
    STORED_NAMES,
    RowFlag,
    annotation,
    annotations,
    build_record,
    flags_of,
    parse_annotations,
    plain_fields,
    stored_flags,
)
from gateway.memory.record import Details, Lineage, Origin, Record, Validity
from gateway.text.dates import Period
from tests.fakes.made import record

MOMENTS = st.floats(-1e9, 1e10, allow_nan=False)
IDS = st.lists(st.text("0123456789abcdef", min_size=1, max_size=32), max_size=3).map(tuple)
TEXTS = st.text(max_size=20)
PERIODS = st.none() | st.tuples(MOMENTS, st.floats(1, 1e6)).map(lambda pair: Period(pair[0], pair[0] + pair[1]))


def annotated_records() -> st.SearchStrategy[Record]:
    """Records with any values of the fields that are stored in one object."""
    lineage = st.builds(
        Lineage,
        supersedes=IDS,
        superseded_by=TEXTS,
        ended_with=TEXTS,
        edit_of=TEXTS,
        edited_in=st.integers(0, 9),
        contributors=IDS,
        confirmations=IDS,
        archived_by=st.sampled_from(["", "user", "limit"]),
        is_undone=st.booleans(),
    )
    validity = st.builds(
        Validity,
        since=st.none() | MOMENTS,
        until=st.none() | MOMENTS,
        earlier=st.lists(st.tuples(MOMENTS, MOMENTS), max_size=3).map(tuple),
    )
    origin = st.builds(
        Origin, file_ids=IDS, file_name=TEXTS, chunk=st.none() | st.integers(0, 99), page=st.none() | st.integers(1, 99)
    )
    details = st.builds(
        Details,
        title=TEXTS,
        topic=TEXTS,
        is_standing=st.none() | st.booleans(),
        worked=st.none() | st.booleans(),
        steps=st.lists(TEXTS, max_size=3).map(tuple),
    )
    return st.builds(
        replace,
        st.just(record("The gate opens at nine.")),
        about=PERIODS,
        utc_offset=st.integers(-43_200, 43_200).map(float),
        suspicious=st.sampled_from([(), ("instruction",), ("instruction", "secret")]),
        is_extracted=st.booleans(),
        is_summary=st.booleans(),
        is_background=st.booleans(),
        is_correction=st.booleans(),
        is_feedback=st.booleans(),
        is_partial=st.booleans(),
        validity=validity,
        lineage=lineage,
        origin=origin,
        details=details,
        metadata=st.dictionaries(TEXTS, TEXTS, max_size=2),
    )


@given(annotated_records())
def test_a_record_survives_its_stored_form(memory: Record) -> None:
    stored = orjson.loads(orjson.dumps(plain_fields(memory)))
    info, metadata = stored.pop("info"), stored.pop("metadata")
    stored |= {"tags": tuple(stored["tags"]), "links": tuple(stored["links"])}
    assert build_record(stored, info, metadata) == memory


def test_the_object_of_a_plain_message_is_empty() -> None:
    assert annotations(record("hello")) == {}
    assert {name: getattr(record("hello"), name) for name in ANNOTATED} == DEFAULTS


def test_every_annotated_field_has_a_stored_name() -> None:
    groups: dict[str, Any] = {"validity": Validity, "lineage": Lineage, "origin": Origin, "details": Details}
    count = sum(len(fields(groups[name])) if name in groups else 1 for name in ANNOTATED)
    assert len(STORED_NAMES) == count + 1, "archived_by has a name for each of its two values"


@pytest.mark.parametrize("value", ["x", [1], [1, "2"], [2, 1], {"a": 1}, [True, 2], [1, 2, 3]])
def test_a_value_that_is_no_period_is_metadata(value: object) -> None:
    assert parse_annotations({"about_time": value}) == ({}, {"about_time": value})
    assert parse_annotations({"about_time": None}) == ({}, {})
    assert parse_annotations({"about_time": [1.5, 2]})[0] == {"about": Period(1.5, 2)}


@pytest.mark.parametrize("value", ["x", 1e9, True, [1]])
def test_a_value_that_is_no_offset_is_metadata(value: object) -> None:
    assert parse_annotations({"utc_offset": value}) == ({}, {"utc_offset": value})


def test_values_of_other_types_are_metadata_and_survive() -> None:
    odd = {"replaces": 7, "replaced_by": ["x"], "held_until": "soon", "edit_of": None, "held_before": [[1], 2, [3, 4]]}
    memory = build_record(plain_of(record("likes tea")), odd, {})
    assert memory.lineage == Lineage()
    assert memory.validity == Validity(earlier=((3.0, 4.0),))
    assert memory.metadata == {"replaces": 7, "replaced_by": ["x"], "held_until": "soon"}
    assert flags_of(memory) == 0, "metadata sets no flag"


def test_a_suspicion_of_another_form_still_marks_the_text() -> None:
    assert parse_annotations({"suspicious": True})[0]["suspicious"] == ("unknown",)


def test_unknown_names_are_metadata_and_the_clients_own_win() -> None:
    memory = build_record(plain_of(record("likes tea")), {"scene": "sky", "mood": "calm"}, {"mood": "glad"})
    assert memory.metadata == {"scene": "sky", "mood": "glad"}


def test_single_names_are_read_as_stored() -> None:
    memory = replace(record("likes tea"), is_extracted=True, lineage=Lineage(supersedes=("a",), archived_by="user"))
    assert annotation(memory, "learnt") is True
    assert annotation(memory, "replaces") == ["a"]
    assert annotation(memory, "taken_out") is True
    assert annotation(memory, "set_aside") is None
    assert annotation(memory, "nothing") is None


@given(annotated_records())
def test_flags_of_the_stored_form_are_those_of_the_record(memory: Record) -> None:
    assert stored_flags(annotations(memory)) == flags_of(memory)


def test_flags_follow_from_the_fields() -> None:
    assert flags_of(record("hello")) == 0
    memory = replace(record("x"), is_extracted=True, suspicious=("a",), about=Period(1, 2), is_correction=True)
    assert flags_of(memory) == RowFlag.EXTRACTED | RowFlag.SUSPICIOUS | RowFlag.DATED | RowFlag.CORRECTION
    assert flags_of(replace(record("x"), lineage=Lineage(supersedes=("a",)))) == RowFlag.SUPERSEDES


def plain_of(memory: Record) -> dict[str, Any]:
    return {name: value for name, value in plain_fields(memory).items() if name not in ("info", "metadata")}
