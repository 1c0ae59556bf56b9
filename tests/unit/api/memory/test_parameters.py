"""Parameters of the memory API: cursors, filters and flags."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.memory.parameters import decode_cursor, encode_cursor, read_filter, read_flag, read_kinds, read_limit
from gateway.errors import BadRequest
from gateway.memory.kinds import KINDS
from gateway.memory.versions import archive
from tests.fakes.made import record


@given(st.floats(-6e10, 2e11), st.integers(0, 10**6), st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_cursor_gives_its_position_back(at: float, part: int, id_: str) -> None:
    text = encode_cursor((at, part, id_))
    assert decode_cursor({"after": text}) == (at, part, id_)
    assert all(character.isalnum() or character in "-_" for character in text), "it fits into a URL"


@given(st.text(max_size=500))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    with contextlib.suppress(BadRequest):
        position = decode_cursor({"after": text})
        assert position is None or decode_cursor({"after": encode_cursor(position)}) == position


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1e2", "²", "", "9" * 5000])
def test_a_limit_is_a_number_from_1_to_1000(limit: str) -> None:
    with pytest.raises(BadRequest, match="from 1 to 1000"):
        read_limit({"limit": limit})
    assert (read_limit({"limit": "1000"}), read_limit({})) == (1000, 100)


def test_kinds_come_with_commas_and_unknown_ones_are_refused() -> None:
    assert set(read_kinds("")) == set(KINDS)
    assert read_kinds("fact,turn") == ("fact", "turn")
    with pytest.raises(BadRequest, match="there are turn"):
        read_kinds("fact,mood")


def test_a_flag_is_true_or_false() -> None:
    flags = {text: read_flag({"f": text}, "f") for text in ("true", "1", "True", "false", "0")}
    assert flags == {"true": True, "1": True, "True": True, "false": False, "0": False}
    assert not read_flag({}, "f")
    with pytest.raises(BadRequest):
        read_flag({"f": "yes"}, "f")


MEMORY = record("The car is red.", session_id="s", kind="fact")
ENDED = archive(MEMORY, MEMORY.event_time + 100)


@pytest.mark.parametrize(
    ("query", "is_listed", "is_ended_listed"),
    [
        ({}, True, False),
        ({"archived": "true"}, False, True),
        ({"as_of": str(MEMORY.event_time + 50)}, True, True),
        ({"as_of": str(MEMORY.event_time + 100)}, True, False),
        ({"as_of": str(MEMORY.event_time - 1)}, False, False),
        ({"session": "s", "cube": "ada", "kind": "fact"}, True, False),
        ({"session": "t"}, False, False),
        ({"cube": "work"}, False, False),
        ({"kind": "turn"}, False, False),
    ],
)
def test_a_filter_selects_by_status_time_and_place(query: Any, is_listed: bool, is_ended_listed: bool) -> None:
    allows = read_filter(query)
    assert (allows(MEMORY), allows(ENDED)) == (is_listed, is_ended_listed)


@pytest.mark.parametrize("query", [{"as_of": "soon"}, {"session": "x" * 257}, {"cube": "x" * 257}, {"kind": "mood"}])
def test_a_filter_names_the_parameter_that_is_wrong(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        read_filter(query)
    assert caught.value.param in query
