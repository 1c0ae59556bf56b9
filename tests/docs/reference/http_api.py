"""Reference of the HTTP APIs, from the OpenAPI document."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from gateway.api.gateway_state import describe_gateway
from gateway.api.mcp.endpoint import describe_mcp
from gateway.api.mcp.tools import described
from gateway.api.memory.description import me_paths, memory_paths
from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.routes import memos_operations
from gateway.api.openapi import describe, memos_paths, openai_paths, ops_paths
from gateway.api.turns import describe_turns
from gateway.server.apis import Api
from tests.docs.reference.tables import code, table

__all__ = [
    "describe_console",
    "describe_mcp_tools",
    "describe_memory",
    "describe_memos_client",
    "describe_memos_native",
    "describe_openai",
    "describe_operators",
]

_COLUMNS = ("route", "summary")


@cache
def _document() -> dict[str, Any]:
    operations = memos_operations(ChatHandlers(20.0))
    paths = {
        "ops": ops_paths,
        "memos": lambda schemas: memos_paths(operations, schemas),
        "openai": openai_paths,
        "turns": describe_turns,
        "memory": memory_paths,
        "me": me_paths,
        "gateway": describe_gateway,
        "mcp": describe_mcp,
    }
    return describe(
        Api(name=name, routes=[], write_error=lambda error: b"", describe=describe_paths)
        for name, describe_paths in paths.items()
    )


def describe_openai() -> str:
    """Routes in OpenAI's format."""
    rows = [(code(f"{method} {path}"), operation["summary"]) for method, path, operation in _routes("OpenAI")]
    return table(_COLUMNS, rows)


def describe_memory() -> str:
    """Routes of the memory API, with their parameters."""
    rows = [
        (code(f"{method} {path}"), operation["summary"], _fields(operation))
        for method, path, operation in _routes("Memory")
    ]
    return table((*_COLUMNS, "parameters"), rows)


def describe_console() -> str:
    """Routes that show what the gateway does, with their parameters."""
    rows = [
        (code(f"{method} {path}"), operation["summary"], _fields(operation))
        for tag in ("Turns", "Gateway")
        for method, path, operation in _routes(tag)
    ]
    return table((*_COLUMNS, "parameters"), rows)


def describe_mcp_tools() -> str:
    """The tools of MCP, with their arguments."""
    rows = []
    for tool in described():
        needed = tool.input_schema.get("required", ())
        names = (f"**{code(name)}**" if name in needed else code(name) for name in tool.input_schema["properties"])
        rows.append((code(tool.name), tool.title or "", ", ".join(names)))
    return table(("tool", "purpose", "arguments (required ones in bold)"), rows)


def describe_memos_client() -> str:
    """Routes that MemOS' client calls."""
    return _describe_memos("MemOS client")


def describe_memos_native() -> str:
    """Routes of MemOS' own server."""
    return _describe_memos("MemOS native")


def describe_operators() -> str:
    """Routes for operators."""
    return table(_COLUMNS, [(code(f"{m} {path}"), operation["summary"]) for m, path, operation in _routes("Operators")])


def _describe_memos(tag: str) -> str:
    rows = [
        (code(f"{method} {path.removeprefix('/product')}"), operation["summary"], _fields(operation))
        for method, path, operation in _routes(tag)
    ]
    return table((*_COLUMNS, "fields (required ones in bold)"), rows)


def _routes(tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in _document()["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _fields(operation: Mapping[str, Any]) -> str:
    """The parameters and the fields of the body, by name."""
    names = {parameter["name"]: parameter["required"] for parameter in operation.get("parameters", [])}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if "$ref" in schema:
            schema = _document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if schema.get("type") == "array":
            return "a list of ids"
        names |= {name: name in schema.get("required", ()) for name in schema.get("properties", {})}
    return ", ".join(f"**{code(name)}**" if is_required else code(name) for name, is_required in names.items())
