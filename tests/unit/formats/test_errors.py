import orjson
import pytest

from gateway.formats.chat import ChatFormat
from gateway.formats.errors import (
    anthropic_error,
    anthropic_error_type,
    non_json_message,
    openai_error,
    openai_error_body,
    replace_non_json,
)
from gateway.formats.messages import MessagesFormat
from gateway.formats.responses import ResponsesFormat
from gateway.formats.translate.to_chat import message_error
from gateway.formats.translate.to_messages import chat_error

UPSTREAM_ERROR = b'{"error":{"message":"no","type":"upstream_error","param":null,"code":"upstream_error"}}'
API_ERROR = b'{"type":"error","error":{"type":"api_error","message":"no"}}'


def test_error_bodies_have_these_bytes() -> None:
    assert openai_error_body("no", "t", "c", "messages[0]") == (
        b'{"error":{"message":"no","type":"t","param":"messages[0]","code":"c"}}'
    )
    assert orjson.dumps(openai_error("no", "t", None)) == (
        b'{"error":{"message":"no","type":"t","param":null,"code":null}}'
    )
    assert orjson.dumps(anthropic_error("no", "api_error")) == API_ERROR
    assert ChatFormat().error_body(502, "no") == ResponsesFormat().error_body(502, "no") == UPSTREAM_ERROR
    assert MessagesFormat().error_body(502, "no") == API_ERROR


def test_error_events_have_these_bytes() -> None:
    cut = b'{"error":{"message":"no","type":"upstream_error","param":null,"code":"stream_interrupted"}}'
    assert ChatFormat().error_event("no", "stream_interrupted") == b"data: " + cut + b"\n\n"
    assert MessagesFormat().error_event("no", "stream_interrupted") == b"event: error\ndata: " + API_ERROR + b"\n\n"
    late = b'{"type":"error","error":{"type":"timeout_error","message":"no"}}'
    assert MessagesFormat().error_event("no", "upstream_timeout") == b"event: error\ndata: " + late + b"\n\n"
    flat = b'{"type":"error","code":"c","message":"no","param":null,"sequence_number":0}'
    assert ResponsesFormat().error_event("no", "c") == b"event: error\ndata: " + flat + b"\n\n"


def test_errors_are_translated_with_these_bytes() -> None:
    translated = orjson.dumps(chat_error({"error": {"type": "not_found_error", "message": "no"}}))
    assert translated == (
        b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"not_found_error"}}'
    )
    assert orjson.dumps(message_error(500, {"error": {"message": "no"}})) == API_ERROR


@pytest.mark.parametrize(
    ("status", "kind", "translated_kind"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (413, "request_too_large", "request_too_large"),
        (418, "invalid_request_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "api_error", "api_error"),
        (503, "overloaded_error", "api_error"),
        (504, "timeout_error", "api_error"),
        (529, "overloaded_error", "overloaded_error"),
    ],
)
def test_a_status_has_a_type_in_the_format_of_anthropic(status: int, kind: str, translated_kind: str) -> None:
    assert anthropic_error_type(status) == kind
    assert message_error(status, {})["error"]["type"] == translated_kind


def test_errors_that_are_json_stay_and_others_are_replaced() -> None:
    assert replace_non_json(400, b'{"error": 1}', "up") is None
    assert non_json_message(400, b'[{"error": 1}]', "up") is None
    for body in (b"<html>busy</html>", b"", b"[1]", b"\xff"):
        replaced = replace_non_json(502, body, "up")
        assert replaced is not None
        assert orjson.loads(replaced)["error"]["type"] == "upstream_error"
    assert non_json_message(502, b"<b>busy\n now</b>", "up") == (
        "the upstream up answered 502 without a JSON error: <b>busy now</b>"
    )
