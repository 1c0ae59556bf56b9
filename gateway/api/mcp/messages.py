"""JSON-RPC messages as MCP uses them, and its errors. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, JSONRPCNotification, JSONRPCRequest
from pydantic import ValidationError

from gateway.errors import GatewayError

__all__ = ["RpcError", "RpcMessage", "error_of", "id_of", "problem_of", "read_message"]

_MAX_PROBLEM = 500  # characters


class RpcError(Exception):
    """An error that is answered as a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class RpcMessage:
    """A request, or a notification (without an id)."""

    method: str
    params: Mapping[str, Any] | None
    id: int | str | None = None

    @property
    def meta(self) -> Mapping[str, Any]:
        """The `_meta` of the parameters; empty if there is none."""
        meta = (self.params or {}).get("_meta")
        return meta if isinstance(meta, dict) else {}


def read_message(data: Any) -> RpcMessage | None:
    """Parse a message; None for a response, which a server without questions ignores. Raises RpcError."""
    if isinstance(data, dict) and "method" not in data and ("result" in data or "error" in data):
        return None
    try:
        if isinstance(data, dict) and "id" not in data:
            notification = JSONRPCNotification.model_validate(data)
            return RpcMessage(notification.method, notification.params)
        request = JSONRPCRequest.model_validate(data)
    except ValidationError as error:
        raise RpcError(INVALID_REQUEST, f"this is no JSON-RPC 2.0 request: {problem_of(error)}") from error
    return RpcMessage(request.method, request.params, request.id)


def id_of(data: Any) -> int | str | None:
    """The id of a message that may be malformed; None if it has no valid one."""
    id_ = data.get("id") if isinstance(data, dict) else None
    return id_ if isinstance(id_, int | str) and not isinstance(id_, bool) else None


def problem_of(error: ValidationError) -> str:
    """The first problem of invalid data, with its path."""
    problem = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ")
    return (f"{path}: {text}" if path else text)[:_MAX_PROBLEM]


def error_of(error: GatewayError) -> RpcError:
    """The JSON-RPC error for an error of the gateway that concerns a single message."""
    code = INTERNAL_ERROR if error.status >= 500 else INVALID_PARAMS
    return RpcError(code, error.message, {"type": error.type, "code": error.code})
