"""Reference of the configuration: every key with its type, default and description, from the pydantic models."""

import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from gateway.config import Config
from gateway.hooks import Plugin
from tests.docs.reference.tables import ROOT, code, load, table

__all__ = ["describe_keys", "describe_plugins", "keys"]

_COLUMNS = ("key", "type", "default", "description")
_LISTS = {"auth.keys": "KeyConfig", "upstreams": "UpstreamConfig", "plugins": "PluginConfig"}
_NAMES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "mapping"}


def describe_keys() -> str:
    """A table for each section."""
    schema = Config.model_json_schema()
    introductions = load("configuration")["sections"]
    parts = []
    for section, rows in _sections(schema).items():
        introduction = introductions.pop(section, "")
        parts += [f"### `{section}`", introduction, table(_COLUMNS, rows)]
    if introductions:
        raise ValueError(f"configuration.toml describes no section: {', '.join(introductions)}")
    return "\n\n".join(part for part in parts if part)


def keys() -> list[str]:
    """The names of all keys."""
    return [name for name, _ in _walk(Config.model_json_schema(), Config.model_json_schema(), "")]


def describe_plugins() -> str:
    """A table for each shipped plugin."""
    parts = []
    for file in sorted((ROOT / "plugins").glob("[a-z]*.py")):
        schema = _plugin_config(file.stem).model_json_schema()
        rows = [
            (code(name), _type(field, schema), _default(field)) for name, field in schema.get("properties", {}).items()
        ]
        parts += [f"### Plugin `{file.stem}`", table(("key of `config`", "type", "default"), rows)]
    return "\n\n".join(parts)


def _plugin_config(name: str) -> type[BaseModel]:
    module = importlib.import_module(f"plugins.{name}")
    (plugin,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Plugin) and value is not Plugin
    ]
    return plugin.Config


def _sections(schema: Mapping[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    """The rows of the tables. A key is in the section of its prefix; `memory` and `upstreams` have subsections."""
    sections: dict[str, list[tuple[str, ...]]] = {}
    for name, field in _walk(schema, schema, ""):
        section = name.rpartition(".")[0].removesuffix("[]") or name
        row = (code(name), _type(field, schema), _default(field), field.get("description", ""))
        sections.setdefault(section, []).append(row)
    return sections


def _walk(schema: Mapping[str, Any], model: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each key with its JSON schema; sections and lists of entries are followed."""
    for name, field in model["properties"].items():
        reference = field.get("$ref")
        if reference:
            yield from _walk(schema, _resolve(reference, schema), f"{prefix}{name}.")
            continue
        yield prefix + name, field
        if prefix + name in _LISTS:
            yield from _walk(schema, schema["$defs"][_LISTS[prefix + name]], f"{prefix}{name}[].")


def _resolve(reference: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    definition: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
    return definition


def _type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return _type(_resolve(field["$ref"], schema), schema)
    if "anyOf" in field:
        return " or ".join(_type(option, schema) for option in field["anyOf"])
    if "const" in field:
        return code(str(field["const"]))
    if "enum" in field:
        return ", ".join(code(str(value)) for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "null":
        return "null"
    if kind == "array":
        items = _type(field.get("items", {}), schema)
        return "list" if items in ("any", "mapping") else f"list of {items}"
    return _NAMES.get(str(kind), str(kind)) + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if "exclusiveMinimum" in field:
        return f" over {field['exclusiveMinimum']}" + ("" if high is None else f", {high} at most")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return "" if low is None else f", at least {low}"


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return "required"
    value = field["default"]
    if isinstance(value, list) and value:
        return ", ".join(code(str(item)) for item in value)
    if isinstance(value, str) and value:
        return code(value)
    return code(json.dumps(value))
