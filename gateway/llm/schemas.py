"""JSON schemas for structured answers of a model. Pure."""

from collections.abc import Mapping
from typing import Any

__all__ = ["list_of", "object_of"]


def object_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of an object with exactly these properties, all required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of a list of such objects."""
    return {"type": "array", "items": object_of(**properties)}
