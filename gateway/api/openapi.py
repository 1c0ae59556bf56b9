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
from gateway.api.memos.defaults import ChatDefaults
from gateway.api.memos.envelope import Operation
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


def openai_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths of the OpenAI API."""
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
    }


def _openai_operation(description: Mapping[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    success = {"application/json": {"schema": _OBJECT}, "text/event-stream": {}}
    return {
        **description,
        "tags": ["OpenAI"],
        "responses": {
            "200": {"description": "The answer of the upstream", "content": success},
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
