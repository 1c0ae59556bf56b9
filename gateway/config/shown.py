"""The configuration as it is shown to people: each key with its value, its default and its description, and without
secrets. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from gateway.config.numbers import FromEnvironment
from gateway.config.sections import KeyConfig, PluginConfig
from gateway.config.whole import Config

__all__ = ["MASK", "ShownSetting", "shown_settings", "shown_values"]

MASK: Final = "•••"
"""Replaces a secret."""
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:key|auth|pass|pwd|pin|dsn|cookie|signature)s?$"
    r"|(?:api|access|private|secret|signing|auth|session)[_-]?key"
    r"|secret|token|passw|passphrase|credential|authorization",
    re.IGNORECASE,
)
_USER_OF_URL = re.compile(r"(?<=://)[^/\s@]{1,1000}@")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSetting:
    """A key of the configuration by its path, with its value as JSON. `default`: None also for a required key."""

    path: str
    value: Any
    default: Any
    is_default: bool
    description: str


def shown_settings(config: Config, tenant: str) -> Iterator[ShownSetting]:
    """All keys of the configuration but the settings of plugins, see `shown_values`; of `auth.keys` the entries of one
    tenant."""
    return _settings(config, None, "", tenant)


def shown_values(settings: BaseModel, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a plugin as JSON. Strings from the environment and those with the name of a secret are masked.
    `raw`: the settings as they are configured."""
    secrets = frozenset(_strings_of_environment(raw))
    return {name: _masked(getattr(settings, name), name, secrets) for name in type(settings).model_fields}


def _settings(section: BaseModel, defaults: BaseModel | None, prefix: str, tenant: str) -> Iterator[ShownSetting]:
    if isinstance(section, KeyConfig) and section.tenant != tenant:
        return
    for name, field in type(section).model_fields.items():
        value, path = getattr(section, name), f"{prefix}{name}"
        is_required = defaults is None and field.is_required()
        default = None if is_required else field.get_default() if defaults is None else getattr(defaults, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, default if isinstance(default, BaseModel) else None, f"{path}.", tenant)
        elif isinstance(value, tuple) and value and all(isinstance(entry, BaseModel) for entry in value):
            for index, entry in enumerate(value):
                yield from _settings(entry, None, f"{path}[{index}].", tenant)
        elif not (isinstance(section, PluginConfig) and name == "config"):
            yield ShownSetting(
                path=path,
                value=_plain(value),
                default=_plain(default),
                is_default=not is_required and value == default,
                description=field.description or "",
            )


def _plain(value: Any) -> Any:
    """A value as JSON, with secrets masked."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(_plain, value)))
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _masked(value: Any, name: str, secrets: frozenset[str]) -> Any:
    """A setting of a plugin as JSON. `name`: the nearest one above the value."""
    if isinstance(value, BaseModel):
        return {field: _masked(getattr(value, field), field, secrets) for field in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _masked(item, str(key), secrets) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = value if isinstance(value, list | tuple) else sorted(value, key=str)
        return [_masked(item, name, secrets) for item in items]
    if value is None or isinstance(value, SecretStr | Enum | int | float):
        return _plain(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    is_secret = text in secrets or _SECRET_NAME.search(name)
    return MASK if is_secret else _USER_OF_URL.sub(f"{MASK}@", text)


def _strings_of_environment(value: Any) -> Iterator[str]:
    if isinstance(value, FromEnvironment):
        yield str(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings_of_environment(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings_of_environment(item)
