"""Parts of the OpenAPI document for the gateway's own routes that answer in OpenAI's format."""

from collections.abc import Sequence
from typing import Any

__all__ = ["describe_get", "parameter"]

_OBJECT = {"type": "object", "additionalProperties": True}


def parameter(name: str, text: str, *, place: str = "query") -> dict[str, Any]:
    """A parameter in the query, which is optional, or in the path."""
    schema = {"type": "string"}
    return {"name": name, "in": place, "required": place == "path", "description": text, "schema": schema}


def describe_get(
    summary: str, tag: str, parameters: Sequence[dict[str, Any]] = (), *, is_stream: bool = False
) -> dict[str, Any]:
    """The description of a route that is read."""
    content: dict[str, Any] = {"text/event-stream": {}} if is_stream else {"application/json": {"schema": _OBJECT}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    return {
        "get": {
            "summary": summary,
            "tags": [tag],
            **({"parameters": list(parameters)} if parameters else {}),
            "responses": {
                "200": {"description": summary, "content": content},
                "default": {"description": "An error in OpenAI's form", "content": error},
            },
        }
    }
