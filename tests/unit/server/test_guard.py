import pytest

from gateway.config import LimitsConfig
from gateway.errors import BadRequest
from gateway.server.guard import parse_json


def test_deep_json_is_refused_and_brackets_in_strings_are_not_depth() -> None:
    limits = LimitsConfig(json_depth=8)
    assert parse_json(b'{"a": "' + b"[" * 50 + b'"}', limits)
    assert parse_json(b"[" * 8 + b"]" * 8, limits)
    with pytest.raises(BadRequest, match="deeper than 8"):
        parse_json(b"[" * 9 + b"]" * 9, limits)
    with pytest.raises(BadRequest, match="line 1, column 2"):
        parse_json(b"{x", limits)
