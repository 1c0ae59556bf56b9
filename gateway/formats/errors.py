"""Error bodies in the formats of OpenAI and Anthropic, and the repair of those that no client can parse. Pure."""

import re
from typing import Any, Final

import orjson

from gateway.formats.json_read import looks_like_json

__all__ = [
    "anthropic_error",
    "anthropic_error_type",
    "non_json_message",
    "openai_error",
    "openai_error_body",
    "replace_non_json",
]

_OBJECTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{")
_EXCERPT = 200  # characters of an error body that are quoted
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai_error(message: str, type_: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """Build an error in OpenAI's format."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def openai_error_body(message: str, type_: str, code: str | None, param: str | None = None) -> bytes:
    """Serialise an error in OpenAI's format."""
    return orjson.dumps(openai_error(message, type_, code, param))


def anthropic_error(message: str, type_: str) -> dict[str, Any]:
    """Build an error in Anthropic's format."""
    return {"type": "error", "error": {"type": type_, "message": message}}


def anthropic_error_type(status: int) -> str:
    """Return the type of Anthropic's errors for an HTTP status."""
    return _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def non_json_message(status: int, body: bytes, upstream: str) -> str | None:
    """Return the message that replaces an upstream's error body; None if the body is a JSON object, or a list of
    objects as Gemini writes it, and can be forwarded unchanged."""
    if _OBJECTS.match(body) is not None and looks_like_json(body):
        return None
    excerpt = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]
    return f"the upstream {upstream} answered {status} without a JSON error" + (f": {excerpt}" if excerpt else "")


def replace_non_json(status: int, body: bytes, upstream: str) -> bytes | None:
    """Return the OpenAI error that replaces an error body without a JSON object; None if the body can stay as it is."""
    message = non_json_message(status, body, upstream)
    return None if message is None else openai_error_body(message, "upstream_error", "upstream_error")
