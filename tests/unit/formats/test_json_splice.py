import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import json_splice

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    found = [(path, value)]
    if isinstance(value, dict):
        found += [item for key, inner in value.items() for item in paths(inner, (*path, key))]
    if isinstance(value, list):
        found += [item for index, inner in enumerate(value) for item in paths(inner, (*path, index))]
    return found


@given(JSON, st.sampled_from([None, 1, 3]), st.booleans())
def test_every_value_is_found_where_it_stands(value: Any, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    for path, expected in paths(value):
        span = json_splice.find(raw, path)
        assert span is not None
        if path:
            assert json.loads(raw[span[0] : span[1]]) == expected


def test_what_is_not_there_is_not_found() -> None:
    raw = b'{"a": [1, {"b": 2}]}'
    for path in (("x",), ("a", 5), ("a", "b"), ("a", 0, "b"), (0,)):
        assert json_splice.find(raw, path) is None


def test_the_last_of_doubled_names_counts() -> None:
    raw = b'{"a": 1, "a": 2}'
    assert json_splice.find(raw, ("a",)) == (14, 15)


@given(JSON)
def test_depth_is_that_of_the_value(value: Any) -> None:
    def nested(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max((nested(item) for item in value.values()), default=0)
        if isinstance(value, list):
            return 1 + max((nested(item) for item in value), default=0)
        return 0

    depth = nested(value)
    for ensure_ascii in (True, False):
        shape = json_splice.structure(json.dumps(value, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass"))
        assert not json_splice.is_deeper(shape, depth)
        assert depth == 0 or json_splice.is_deeper(shape, depth - 1)


@pytest.mark.parametrize("raw", [b"[" * 5000, b"]" * 9, b'{"a":' * 100, b"[" * 2_000_000 + b"[]"])
def test_what_does_not_close_is_too_deep(raw: bytes) -> None:
    assert json_splice.is_deeper(json_splice.structure(raw), 64)


def test_only_what_stands_outside_of_strings_has_a_structure() -> None:
    raw = rb'{"a,[": "x\\", "b": "\"[,{", "c": [1, 2]}'
    assert json_splice.structure(raw) == b"{,,[,]}"


@given(st.text(), st.text())
def test_text_goes_into_strings_at_both_ends(old: str, new: str) -> None:
    raw = b' { "s" : ' + json.dumps(old).encode() + b" } "
    span = json_splice.find(raw, ("s",))
    assert span is not None
    if any(0xD800 <= ord(character) < 0xE000 for character in new):
        return
    assert json.loads(json_splice.insert_into_string(raw, span, new)) == {"s": new + old}
    assert json.loads(json_splice.insert_into_string(raw, span, new, at_end=True)) == {"s": old + new}


def test_values_go_into_full_and_empty_arrays() -> None:
    assert json_splice.insert_first(b"[ 1 ]", (0, 5), b"0") == b"[0, 1 ]"
    assert json_splice.insert_first(b"[ ]", (0, 3), b"0") == b"[0 ]"
