"""Builds the parts of the OpenAPI document for the gateway's own routes, whose errors are in OpenAI's format. Pure."""

from typing import Any, Final

from pydantic import BaseModel

__all__ = ["body_of", "describe_operation", "path_parameter", "query_parameter"]

_STRING: Final = {"type": "string"}
_OBJECT: Final = {"type": "object", "additionalProperties": True}
_ERROR: Final = {
    "description": "An error in OpenAI's form",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}},
}


def query_parameter(name: str, text: str, *, is_needed: bool = False) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": is_needed, "description": text, "schema": _STRING}


def path_parameter(name: str, text: str) -> dict[str, Any]:
    """A parameter in the path."""
    return {"name": name, "in": "path", "required": True, "description": text, "schema": _STRING}


def body_of(model: type[BaseModel], schemas: dict[str, Any], *, is_needed: bool = True) -> dict[str, Any]:
    """A JSON body of a model, whose schema is added to `schemas`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"required": is_needed, "content": {"application/json": {"schema": reference}}}


def describe_operation(
    tag: str,
    summary: str,
    *parameters: dict[str, Any],
    body: dict[str, Any] | None = None,
    status: str = "200",
    kind: str = "application/json",
) -> dict[str, Any]:
    """An operation of a route. `kind`: the media type of its answer."""
    content = {kind: {"schema": _OBJECT} if kind == "application/json" else {"schema": _STRING}}
    return {
        "summary": summary,
        "tags": [tag],
        **({"parameters": list(parameters)} if parameters else {}),
        **({} if body is None else {"requestBody": body}),
        "responses": {status: {"description": "The answer", "content": content}, "default": _ERROR},
    }
