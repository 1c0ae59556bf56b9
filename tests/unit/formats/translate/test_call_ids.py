"""Ids of calls fit Anthropic's pattern, and can be undone."""

import re

import pytest

from gateway.formats.translate.call_ids import fitting_id, original_id


@pytest.mark.parametrize("id_", ["call:1.2/é", "", "a b", "函数_1", "call\n", "gwid_x", "x" * 500 + ":", "\ud83d"])
def test_an_id_that_does_not_fit_is_encoded_and_comes_back(id_: str) -> None:
    fitting = fitting_id(id_)
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", fitting)
    assert original_id(fitting) == id_
    assert fitting_id(id_) == fitting


@pytest.mark.parametrize("id_", ["call_1", "toolu_01A-b", "7"])
def test_an_id_that_fits_stays(id_: str) -> None:
    assert fitting_id(id_) == original_id(id_) == id_


@pytest.mark.parametrize("value", [None, 7, "gwid_!", "gwid_", "gwid_YQ"])
def test_what_was_not_encoded_here_stays(value: object) -> None:
    assert original_id(value) == ("" if value == "gwid_" else value)
