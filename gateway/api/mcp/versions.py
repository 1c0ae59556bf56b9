"""The protocol version of a message, and the checks that its headers must pass. Pure.

From 2026-07-28 on each message carries its version in `_meta`, and headers repeat parts of it for proxies. Earlier
versions are negotiated by `initialize`; clients then send the version in a header, or none.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    DEFAULT_NEGOTIATED_VERSION,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from gateway.api.mcp.messages import RpcError, RpcMessage

__all__ = [
    "BATCH_VERSIONS",
    "VERSION_HEADER",
    "check_version",
    "is_stateless",
    "negotiated_version",
    "status_of",
    "version_of",
]

VERSION_HEADER: Final = "mcp-protocol-version"
BATCH_VERSIONS: Final = (None, "2024-11-05", "2025-03-26")
"""The values of the version header with which several messages may come at once."""
_METHOD_HEADER, _NAME_HEADER = "mcp-method", "mcp-name"
_NAMES: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The parameter that the name header repeats, by method."""
_ENCODED: Final = re.compile(r"=\?base64\?([A-Za-z0-9+/=]*)\?=")
_STATUSES: Final = {
    **dict.fromkeys((PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, HEADER_MISMATCH), 400),
    **dict.fromkeys((MISSING_REQUIRED_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION), 400),
    METHOD_NOT_FOUND: 404,
}
_EARLIER_STATUSES: Final = dict.fromkeys(
    (PARSE_ERROR, INVALID_REQUEST, HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION), 400
)


def is_stateless(version: str) -> bool:
    """True for versions whose messages carry all that they need, without a handshake."""
    return version in MODERN_PROTOCOL_VERSIONS


def negotiated_version(requested: str) -> str:
    """The version to answer `initialize` with: the requested one if it has the handshake, else the latest of these."""
    return requested if requested in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION


def status_of(code: int, version: str | None) -> int:
    """The HTTP status of a JSON-RPC error; `version` is that of the message if it is known."""
    statuses = _STATUSES if version is not None and is_stateless(version) else _EARLIER_STATUSES
    return statuses.get(code, 200)


def version_of(headers: Mapping[str, str], message: RpcMessage) -> str:
    """The version of a request. Raises RpcError if it is not supported, or its headers and its body differ."""
    header = headers.get(VERSION_HEADER)
    if header in HANDSHAKE_PROTOCOL_VERSIONS:
        return header
    if header is None and PROTOCOL_VERSION_META_KEY not in message.meta:
        return DEFAULT_NEGOTIATED_VERSION
    if header is not None and PROTOCOL_VERSION_META_KEY not in message.meta:
        check_version(header)
    needed = (PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY)
    missing = [key for key in needed if key not in message.meta]
    if missing:
        raise RpcError(INVALID_PARAMS, f"params._meta: {' and '.join(missing)} must be there in this version")
    _check_headers(headers, message)
    version = str(message.meta[PROTOCOL_VERSION_META_KEY])
    check_version(version)
    return version


def check_version(version: str) -> None:
    """Raise RpcError for a version that is not supported."""
    supported = [*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS]
    if version not in supported:
        data = {"supported": supported, "requested": version[:100]}
        raise RpcError(UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", data)


def _check_headers(headers: Mapping[str, str], message: RpcMessage) -> None:
    """Raise RpcError unless the headers repeat the version, the method and the name of the body."""
    named = _NAMES.get(message.method)
    expected: dict[str, Any] = {
        VERSION_HEADER: message.meta[PROTOCOL_VERSION_META_KEY],
        _METHOD_HEADER: message.method,
        _NAME_HEADER: (message.params or {}).get(named) if named else None,
    }
    for name, value in expected.items():
        values = _values(headers, name)
        if len(values) > 1:
            raise RpcError(HEADER_MISMATCH, f"the header {name} is sent more than once")
        if value is not None and [_decoded(text) for text in values] != [value]:
            raise RpcError(HEADER_MISMATCH, f"the header {name} must repeat what is in the body")


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    get_all = getattr(headers, "getall", None)  # of a multidict
    if get_all is not None:
        return list(get_all(name, ()))
    return [headers[name]] if name in headers else []


def _decoded(text: str) -> str | None:
    """The value of a header, which is in Base64 if it cannot be sent as it is; None if that is malformed."""
    match = _ENCODED.fullmatch(text)
    if match is None:
        return text
    try:
        return base64.b64decode(match[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
