import pytest

from gateway.config import LimitsConfig
from gateway.errors import BadRequest, GatewayError
from gateway.server.guard import error_response, face_of, parse_json

ERROR = GatewayError("what", code="c", param="p")


def test_each_face_has_its_own_format() -> None:
    assert (
        error_response(ERROR, "openai").body
        == b'{"error":{"message":"what","type":"internal_error","param":"p","code":"c"}}'
    )
    assert error_response(ERROR, "anthropic").body == b'{"type":"error","error":{"type":"api_error","message":"what"}}'
    assert error_response(ERROR, "memos").body == b'{"code":500,"message":"what","data":null}'


@pytest.mark.parametrize(
    ("path", "face"),
    [
        ("/v1/chat/completions", "openai"),
        ("/v1/messages", "anthropic"),
        ("/product/x", "memos"),
        ("/health", "ops"),
        ("/x", "openai"),
    ],
)
def test_a_path_has_a_face(path: str, face: str) -> None:
    assert face_of(path) == face


def test_deep_json_is_refused_and_brackets_in_strings_are_not_depth() -> None:
    limits = LimitsConfig(json_depth=8)
    assert parse_json(b'{"a": "' + b"[" * 50 + b'"}', limits)
    assert parse_json(b"[" * 8 + b"]" * 8, limits)
    with pytest.raises(BadRequest, match="deeper than 8"):
        parse_json(b"[" * 9 + b"]" * 9, limits)
    with pytest.raises(BadRequest, match="line 1, column 2"):
        parse_json(b"{x", limits)
