"""JSON schemas of what a model is to answer. Pure."""

from collections.abc import Mapping
from typing import Any

__all__ = ["list_of", "object_of"]


def object_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object that has all of these and nothing else."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """A list of such objects."""
    return {"type": "array", "items": object_of(**properties)}
