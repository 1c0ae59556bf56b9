from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.memory.filters import BadFilter, memory_type, parse_filter, parse_time
from tests.fakes.made import record

RECORD = record(
    "I drank an Espresso in Graz",
    kind="turn",
    source="user",
    session_id="s1",
    tags=("travel", "coffee"),
    agent_id="alpha",
    app_id="shop",
    event_time=1_767_276_000.0,  # 2026-01-01T14:00:00Z
    updated_at=1_775_001_599.0,  # 2026-03-31T23:59:59Z
    confidence=0.9,
    info={"scene": "checkout", "priority": 4, "paid": True, "deep": {"level": 2}, "list": ["a", "b"]},
)

PASSES: list[Any] = [
    {},
    None,
    {"and": [{"tags": {"contains": "travel"}}, {"created_at": {"gte": "2026-01-01", "lt": "2026-02-01"}}]},
    {"or": [{"memory_type": "LongTermMemory"}, {"memory_type": "UserMemory", "confidence": {"gte": 0.8}}]},
    {"and": [{"app_id": "shop"}, {"agent_id": {"in": ["alpha", "beta"]}}]},
    {"and": [{"scene": "checkout"}, {"info.priority": {"gt": 3}}]},
    {"and": [{"memory": {"like": "espresso"}}, {"or": [{"session_id": "s1"}, {"session_id": "s2"}]}]},
    {"and": [{"update_time": {"lte": "2026-03-31 23:59:59"}}]},
    {"id": {"in": [RECORD.id]}},
    {"created_at": "2026-01-01"},
    {"created_at": {"lte": "2026-01-01"}},
    {"created_at": {"gt": 1_767_275_999}},
    {"created_at": {"gt": 1_767_275_999_000}},
    {"paid": True},
    {"info.deep.level": 2},
    {"list": "a"},
    {"list": {"contains": "b"}},
    {"tags": "coffee"},
    {"memory": {"contains": "GRAZ"}},
    {"memory": {"nolike": "tea"}},
    {"status": {"=": "activated"}},
]
FAILS: list[Any] = [
    {"tags": {"contains": "work"}},
    {"created_at": {"gt": "2026-01-02"}},
    {"created_at": {"lt": "2026-01-01"}},
    {"confidence": {"lt": 0.5}},
    {"priority": "4"},
    {"priority": {"gt": "3"}},
    {"paid": 1},
    {"unknown": "x"},
    {"unknown": {"gt": 1}},
    {"memory": {"nolike": "espresso"}},
    {"session_id": {"in": ["s2", "s3"]}},
    {"scene": "' OR 1=1 --"},
]


@pytest.mark.parametrize("data", PASSES)
def test_a_filter_that_allows_a_record(data: Any) -> None:
    allows = parse_filter(data).of("ada", "user")
    assert allows is None or allows(RECORD)


@pytest.mark.parametrize("data", FAILS)
def test_a_filter_that_does_not_allow_a_record(data: Any) -> None:
    allows = parse_filter(data).of("ada", "user")
    assert allows is not None
    assert not allows(RECORD)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "filter"),
        ("tags", "filter"),
        ({"and": []}, "filter.and"),
        ({"and": {}}, "filter.and"),
        ({"tags": {"has": "x"}}, "filter.tags.has"),
        ({"cube": {"tags": "x"}}, "filter.cube.tags"),
        ({"tags": {}}, "filter.tags"),
        ({"and": [{"tags": {"has": "x"}}]}, "filter.and[0].tags"),
        ({"and": [{"ok": 1}, {"tags": {"contains": ["x"]}}]}, "filter.and[1].tags.contains"),
        ({"tags": {"in": "x"}}, "filter.tags.in"),
        ({"tags": {"in": [{"a": 1}]}}, "filter.tags.in"),
        ({"memory": {"like": 3}}, "filter.memory.like"),
        ({"created_at": {"gt": "yesterday"}}, "filter.created_at.gt"),
        ({"created_at": {"like": "2026"}}, "filter.created_at.like"),
        ({"tags": {"gt": None}}, "filter.tags.gt"),
        ({"cube": {"and": [{"a": 1}]}, "and": [{"a": 1}]}, "filter"),
        ({"cube": {"and": [{"a": {"near": 1}}]}}, "filter.cube.and[0].a"),
    ],
)
def test_a_malformed_filter_names_the_path(data: Any, path: str) -> None:
    with pytest.raises(BadFilter) as caught:
        parse_filter(data)
    assert str(caught.value).startswith(path)


def test_a_filter_is_bounded_in_depth_and_size() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(20):
        deep = {"and": [deep]}
    with pytest.raises(BadFilter, match="deeper"):
        parse_filter(deep)
    with pytest.raises(BadFilter, match="at most 200"):
        parse_filter({"or": [{"a": n} for n in range(300)]})


def test_filters_of_single_cubes_apply_to_these_only() -> None:
    parsed = parse_filter({"mine": {"and": [{"tags": {"contains": "work"}}]}, "user": {"or": [{"scene": "checkout"}]}})
    mine, others, knowledge = parsed.of("mine", "user"), parsed.of("x", "user"), parsed.of("kb", "knowledgebase")
    assert mine is not None
    assert not mine(RECORD)
    assert others is not None
    assert others(RECORD)
    assert knowledge is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_anything_is_a_filter_or_refused(data: Any) -> None:
    try:
        allows = parse_filter(data).of("ada", "user")
    except BadFilter:
        return
    assert allows is None or allows(RECORD) in (True, False)


def test_times_are_read_in_all_forms() -> None:
    assert parse_time("2026-01-01") == parse_time("2026-01-01T01:00:00+01:00") == 1_767_225_600
    assert parse_time(1_767_225_600_000) == 1_767_225_600
    assert parse_time("soon") is None
    assert parse_time(True) is None


def test_memory_types_are_those_of_memos() -> None:
    kinds = {"document": "RawFileMemory", "preference": "PreferenceMemory", "tool": "ToolTrajectoryMemory"}
    assert {kind: memory_type(record("x", kind=kind)) for kind in kinds} == kinds
    assert memory_type(RECORD) == "UserMemory"
    assert memory_type(record("x", source="assistant")) == "LongTermMemory"
