"""Reference of the plugin interface, from `gateway/hooks.py`."""

import dataclasses
import inspect
import re
from typing import Any

from gateway import turn
from gateway.formats.sse import Event
from gateway.hooks import HOOKS, Plugin, PluginConfigModel, PluginCounters, Reject, Reply, Services
from tests.docs.reference.tables import code, table

__all__ = ["describe_hooks", "describe_types"]

_TYPES = (Reply, Services, turn.Turn, turn.Identity, turn.ParsedRequest, turn.Memory, turn.Record, turn.Answer, Event)


def describe_hooks() -> str:
    """A table of the hooks."""
    rows = [
        (code(_call(name)), _defined(getattr(Plugin, name)), _text(getattr(Plugin, name)))
        for name in (*HOOKS, "start", "stop")
    ]
    return table(("hook", "defined with", "when it is called, and what it may return"), rows)


def describe_types() -> str:
    """The types that hooks get and return."""
    parts = [
        f"### `{PluginConfigModel.__name__}`",
        _text(PluginConfigModel),
        f"### `{Reject.__name__}{_parameters(Reject.__init__)}`",
        _text(Reject),
    ]
    methods = [(name, getattr(PluginCounters, name)) for name in ("add", "get")]
    table_rows = [(code(f"{name}{_parameters(method)}"), _defined(method), _text(method)) for name, method in methods]
    parts += [f"### `{PluginCounters.__name__}`", _text(PluginCounters)]
    parts.append(table(("method", "defined with", "what it does"), table_rows))
    for kind in _TYPES:
        parts += [f"### `{kind.__name__}`", _text(kind)]
        if dataclasses.is_dataclass(kind):
            rows = [(code(field.name), code(_type(field))) for field in dataclasses.fields(kind)]
            parts.append(table(("field", "type"), rows))
    return "\n\n".join(parts)


def _call(name: str) -> str:
    """A hook as it is called, without `self`."""
    return f"{name}({', '.join(_arguments(getattr(Plugin, name)))})"


def _parameters(function: Any) -> str:
    return f"({', '.join(_arguments(function))})"


def _arguments(function: Any) -> list[str]:
    return [
        name if parameter.default is parameter.empty else f"{name}={parameter.default!r}"
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    ]


def _defined(method: Any) -> str:
    return "`async def`" if inspect.iscoroutinefunction(method) else "`def`"


def _text(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")


def _type(field: dataclasses.Field[Any]) -> str:
    if isinstance(field.type, type) and not hasattr(field.type, "__args__"):
        return field.type.__name__
    return re.sub(r"\b(?:gateway|collections|typing|logging|pathlib)\.(?:[a-z_]+\.)*", "", str(field.type))
