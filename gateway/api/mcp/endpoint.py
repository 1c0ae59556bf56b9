"""The HTTP endpoint of MCP (Model Context Protocol): `POST /mcp`, without sessions, answered with JSON.

The models of the protocol are imported with the first request, since they take a third of a second.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from gateway.api.mcp.caller import Caller, McpServices
from gateway.errors import Forbidden, GatewayError, UnsupportedEncoding
from gateway.server.guard import principal_of, read_json, request_id_of

if TYPE_CHECKING:
    from gateway.api.mcp.server import McpServer

__all__ = ["CHALLENGE", "McpFace", "describe_mcp", "write_error"]

CHALLENGE: Final = 'Bearer realm="gateway"'
"""The value of `WWW-Authenticate` for a request without a valid key."""
_PARSE_ERROR, _INVALID_REQUEST, _INTERNAL_ERROR = -32700, -32600, -32603
_MAX_BODY_MB = 4  # MiB of a message: the longest has 50 texts
_JSON: Final = "application/json"


class McpFace:
    """HTTP handler of the endpoint. `cors_origins` are the origins whose pages may call it."""

    def __init__(self, services: McpServices) -> None:
        self._services = services
        limits = services.config.limits
        self._limits = limits.model_copy(update={"body_mb": min(limits.body_mb, _MAX_BODY_MB)})
        self._origins = frozenset(services.config.server.cors_origins)
        self._server: McpServer | None = None

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.post("/mcp", self.serve)]

    async def serve(self, request: web.Request) -> web.Response:
        """Answer a JSON-RPC message: a request with its response, a notification with 202."""
        self._check_origin(request)
        if request.content_type != _JSON:
            raise UnsupportedEncoding(
                f"send the message as {_JSON}", code="unsupported_content_type", param="content-type"
            )
        _, message = await read_json(request, self._limits)
        if self._server is None:
            self._server = await asyncio.to_thread(_load_server, self._services)
        caller = Caller(
            principal=principal_of(request),
            headers=request.headers,
            request_id=request_id_of(request),
            received_at=time.time(),
        )
        answer = await self._server.answer(caller, message)
        if answer.body is None:
            return web.Response(status=answer.status)
        return web.Response(status=answer.status, body=orjson.dumps(answer.body), content_type=_JSON)

    def _check_origin(self, request: web.Request) -> None:
        """Raise Forbidden for a page of another site (DNS rebinding), also if it has a key."""
        origin = request.headers.get("origin")
        if origin is None or not self._origins.isdisjoint((origin, "*")):
            return
        if origin.removeprefix("https://").removeprefix("http://") != request.host:
            raise Forbidden("pages of this origin may not call the gateway; see server.cors_origins")


def _load_server(services: McpServices) -> "McpServer":
    from gateway.api.mcp.server import McpServer  # noqa: PLC0415 — a third of a second that a start does not need

    return McpServer(services)


def write_error(error: GatewayError) -> bytes:
    """Serialize an error of a whole HTTP request as a JSON-RPC error without an id."""
    code = _INTERNAL_ERROR if error.status >= 500 else _INVALID_REQUEST
    if error.code == "invalid_json":
        code = _PARSE_ERROR
    data = {"type": error.type, "code": error.code, "param": error.param}
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": error.message, "data": data}})


def describe_mcp(schemas: dict[str, Any]) -> dict[str, Any]:
    """The path of the endpoint for the OpenAPI document."""
    schemas["JsonRpcMessage"] = {
        "type": "object",
        "required": ["jsonrpc"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer", "null"]},
            "method": {"type": "string"},
            "params": {"type": "object"},
            "result": {"type": "object"},
            "error": {"type": "object"},
        },
    }
    message: Callable[[str], dict[str, Any]] = lambda text: {  # noqa: E731 — a fragment of the document
        "description": text,
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/JsonRpcMessage"}}},
    }
    return {
        "/mcp": {
            "post": {
                "summary": "Model Context Protocol: one JSON-RPC message",
                "tags": ["MCP"],
                "requestBody": {"required": True, **message("")} | {"description": "A request or a notification"},
                "responses": {
                    "200": message("The response"),
                    "202": {"description": "A notification was accepted"},
                    "default": message("An error as JSON-RPC"),
                },
            }
        }
    }
