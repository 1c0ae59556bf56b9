"""`/openapi.json`, generated from the models that validate requests, and `/docs`, a page that renders it offline.

Forwarded bodies have an open schema (unknown fields pass through), which lists the fields that the gateway reads.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

from gateway import __version__
from gateway.api.memory_admin import ForgetRequest
from gateway.api.memos.defaults import ChatDefaults
from gateway.api.memos.envelope import Operation
from gateway.memory.kinds import KINDS
from gateway.server.apis import Api

__all__ = ["OpenAPIFace", "describe", "memos_paths", "openai_paths", "ops_paths"]

_STRING: Final = {"type": "string"}
_OBJECT: Final = {"type": "object", "additionalProperties": True}
_MESSAGES: Final = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": _STRING, "content": {}},
        "additionalProperties": True,
    },
}
_CHAT: Final = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {"model": {"type": "string", "minLength": 1}, "messages": _MESSAGES, "stream": {"type": "boolean"}},
    "additionalProperties": True,
}
_MEMORY_HEADERS: Final = {
    "x-memory-user": "Whose memory.",
    "x-memory-session": "Which conversation.",
    "x-memory-mode": "on, read, write or off.",
    "x-memory-budget": "Tokens that memories may take.",
    "x-memory-selectivity": "How sure it must be that a memory helps, 0 to 1; 0: whatever fits is injected.",
    "x-memory-task": "Name of a task that the front end asks on its own account, such as `title`: no memory.",
}
_LINES: Final = "application/x-ndjson"
_SELECTION: Final = [
    {"name": name, "in": "query", "required": False, "schema": _STRING} for name in ("tenant", "user", "session")
]
_ENVELOPE: Final = {
    "type": "object",
    "required": ["code", "message", "data"],
    "properties": {"code": {"type": "integer"}, "message": _STRING, "data": {}},
}
_PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
_OPENAI_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "type", "param", "code"]}},
}


class OpenAPIFace:
    """Serves the document, built on first use. Both routes need no key: they contain no data of users."""

    def __init__(self, apis: Sequence[Api]) -> None:
        self._apis = apis
        self._document: bytes | None = None

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/openapi.json", self.document), web.get("/docs", self.page)]

    async def document(self, request: web.Request) -> web.Response:
        if self._document is None:
            self._document = await asyncio.to_thread(lambda: orjson.dumps(describe(self._apis)))
        return web.Response(body=self._document, content_type="application/json")

    async def page(self, request: web.Request) -> web.Response:
        page = await asyncio.to_thread(resources.files("gateway.ui").joinpath("docs.html").read_bytes)
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS)


def describe(apis: Iterable[Api]) -> dict[str, Any]:
    """Build the OpenAPI 3.1 document of all APIs."""
    schemas: dict[str, Any] = {"Envelope": _ENVELOPE, "OpenAIError": _OPENAI_ERROR, "ChatCompletion": _CHAT}
    paths: dict[str, Any] = {}
    for api in apis:
        paths |= api.describe(schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Memory Gateway",
            "version": __version__,
            "description": "An OpenAI-compatible proxy with a long-term memory, which also speaks MemOS' HTTP API.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}, "gateway_key": _header_key()},
        },
        "security": [{"key": []}, {"gateway_key": []}, {}],
    }


def memos_paths(operations: Iterable[Operation], schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths of the MemOS API, whose schemas are added to `schemas`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for path in operation.paths:
            method = operation.method.lower()
            paths.setdefault(path, {})[method] = _memos_operation(operation, path, schemas)
    return paths


def _header_key() -> dict[str, str]:
    return {"type": "apiKey", "in": "header", "name": "x-gateway-key"}


def _memos_operation(operation: Operation, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    family = "MemOS client" if operation.is_client else "MemOS native"
    description: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [family if path.startswith("/product") else "MemOS client, code 0"],
        "operationId": f"{operation.method.lower()}{path.replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": _memos_responses(operation),
    }
    if "{memory_id}" in path:
        description["parameters"] = [{"name": "memory_id", "in": "path", "required": True, "schema": _STRING}]
    if operation.query:
        description["parameters"] = [
            {"name": name, "in": "query", "required": is_needed, "schema": _STRING}
            for name, is_needed in operation.query.items()
        ]
    schema = _schema_of(operation, schemas)
    if schema is not None:
        description["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return description


def _schema_of(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any] | None:
    if operation.path == "/configure" and operation.method == "POST":
        model: Any = ChatDefaults
    elif operation.path == "/get_memory_by_ids":
        return {"type": "array", "items": _STRING}
    elif operation.model is None:
        return None
    else:
        model = operation.model
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _memos_responses(operation: Operation) -> dict[str, Any]:
    if operation.data == "events":
        success: dict[str, Any] = {"text/event-stream": {}}
    else:
        success = {"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}}
        if operation.path.startswith("/scheduler/wait"):
            success = {"application/json": {"schema": _OBJECT}}
        if operation.is_client and operation.model is not None and "stream" in operation.model.model_fields:
            success["text/event-stream"] = {}
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}}
    return {
        "200": {"description": operation.message, "content": success},
        "default": {"description": "An error: `code` is the HTTP status.", "content": failure},
    }


def _query_parameter(name: str, text: str, *, is_needed: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": is_needed, "description": text, "schema": _STRING}


def _selection_parameters() -> list[dict[str, Any]]:
    return [
        _query_parameter("user", "Whose memories; else the default user's."),
        _query_parameter("kind", f"{', '.join(KINDS)}; several with commas."),
        _query_parameter("archived", "`true`: those that hold no more."),
        _query_parameter("limit", "How many, 1 to 1000."),
    ]


_AS_OF: Final = _query_parameter("as_of", "What was known and held then: a date, a time or seconds since 1970.")
_VECTORS: Final = _query_parameter(
    "vectors", "`true`: with the vector of each memory, for an import by the same embedder."
)
_QUERY: Final = _query_parameter("query", "What to search for.", is_needed=True)


def _memory_paths(id_parameter: dict[str, Any]) -> dict[str, Any]:
    return {
        "/v1/memory/reindex": {
            "get": _openai_operation({"summary": "Get the progress of reindexing"}),
            "post": _openai_operation({"summary": "Start reindexing for the configured embedder"}, "202"),
        },
        "/v1/memory/forget": {
            "post": _openai_operation(
                {
                    "summary": "Delete memories, with `purge` from the disk too",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": ForgetRequest.model_json_schema()}},
                    },
                }
            )
        },
        "/v1/memory/export": {
            "get": _openai_operation(
                {"summary": "Export memories as JSON lines", "parameters": [*_SELECTION, _VECTORS]}, kind=_LINES
            )
        },
        "/v1/memory/import": {
            "post": _openai_operation(
                {
                    "summary": "Import memories from JSON lines",
                    "parameters": _SELECTION[:1],
                    "requestBody": {"required": True, "content": {_LINES: {"schema": _STRING}}},
                }
            )
        },
        "/v1/memory/explain/{id}": {
            "get": _openai_operation({"summary": "Explain the recall of a chat", **id_parameter})
        },
        **_history_paths(id_parameter),
    }


def _history_paths(id_parameter: dict[str, Any]) -> dict[str, Any]:
    selection = _selection_parameters()
    return {
        "/v1/memory/list": {
            "get": _openai_operation(
                {
                    "summary": "List the memories of a user, also as of a point in time",
                    "parameters": [*selection, _AS_OF],
                }
            )
        },
        "/v1/memory/search": {
            "get": _openai_operation({"summary": "Search the memories of a user", "parameters": [_QUERY, *selection]})
        },
        "/v1/memory/history/{id}": {
            "get": _openai_operation({"summary": "Get the version history of a memory", **id_parameter})
        },
        "/v1/memory/undo/{id}": {
            "post": _openai_operation({"summary": "Undo the last change of a memory", **id_parameter})
        },
    }


def openai_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths of the OpenAI API and of the gateway's own routes."""
    headers = [
        {"name": name, "in": "header", "required": False, "description": text, "schema": _STRING}
        for name, text in _MEMORY_HEADERS.items()
    ]
    chat = {
        "summary": "Chat completion with memory, plain or streamed",
        "parameters": headers,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatCompletion"}}},
        },
    }
    any_object = {"requestBody": {"required": True, "content": {"application/json": {"schema": _OBJECT}}}}
    id_parameter = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": _STRING}]}
    return {
        "/v1/chat/completions": {"post": _openai_operation(chat)},
        "/v1/completions": {"post": _openai_operation({"summary": "Forwarded to an upstream", **any_object})},
        "/v1/embeddings": {"post": _openai_operation({"summary": "Forwarded to an upstream", **any_object})},
        "/v1/models": {"get": _openai_operation({"summary": "List the models of all upstreams"})},
        "/v1/models/{id}": {"get": _openai_operation({"summary": "Get a model", **id_parameter})},
        **_memory_paths(id_parameter),
    }


def _openai_operation(
    description: Mapping[str, Any], status: str = "200", kind: str = "application/json"
) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    return {
        **description,
        "tags": ["OpenAI"],
        "responses": {
            status: {
                "description": "The answer of the upstream",
                "content": {kind: {"schema": _OBJECT} if kind == "application/json" else {}, "text/event-stream": {}},
            },
            "default": {"description": "An error in OpenAI's form", "content": error},
        },
    }


def ops_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths for operators."""
    texts = {
        "/": "Name and version",
        "/health": "Liveness",
        "/ready": "Readiness, with the degraded parts",
        "/metrics": "Prometheus metrics",
        "/openapi.json": "This document",
        "/docs": "This document as a page",
    }
    paths: dict[str, Any] = {}
    for path, text in texts.items():
        answers = {"200": {"description": text}, "default": {"description": "Not ready"}}
        paths[path] = {"get": {"summary": text, "tags": ["Operators"], "security": [], "responses": answers}}
    return paths
