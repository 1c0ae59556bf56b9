"""The root of the configuration: joins the sections, reads the file and validates it."""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from gateway.config.location import check_location
from gateway.config.memory import MemoryConfig
from gateway.config.numbers import FromEnvironment
from gateway.config.sections import (
    AuthConfig,
    ConsoleConfig,
    LimitsConfig,
    LogConfig,
    OtelConfig,
    PluginConfig,
    Section,
    ServerConfig,
    UsageConfig,
)
from gateway.config.storage import is_object_storage
from gateway.config.upstreams import ModelsConfig, UpstreamConfig
from gateway.config.yaml_file import read_yaml
from gateway.errors import ConfigError

__all__ = ["Config", "is_loopback", "load"]

_MAX_DEPTH = 32
_MAX_VALUES = 20_000
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Config(Section):
    """The whole configuration file."""

    server: ServerConfig = Field(ServerConfig(), description="Where it listens.")
    auth: AuthConfig = Field(AuthConfig(), description="Who may use it.")
    upstreams: Literal["auto"] | tuple[UpstreamConfig, ...] = Field(
        "auto",
        description="Model servers. `auto`: OpenAI if OPENAI_API_KEY is set, else a local server, else offline.",
    )
    models: ModelsConfig = Field(ModelsConfig(), description="Names of models.")
    memory: MemoryConfig = Field(MemoryConfig(), description="The memory.")
    limits: LimitsConfig = Field(LimitsConfig(), description="What a client may send.")
    usage: UsageConfig = Field(UsageConfig(), description="What answers cost.")
    console: ConsoleConfig = Field(ConsoleConfig(), description="What people see of the gateway's work.")
    log: LogConfig = Field(LogConfig(), description="JSON lines on standard error.")
    otel: OtelConfig = Field(OtelConfig(), description="Traces and metrics by OpenTelemetry.")
    plugins: tuple[PluginConfig, ...] = Field((), description="Plugins, in the order in which they see a request.")

    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _caches: Path | None = PrivateAttr(None)

    @field_validator("upstreams")
    @classmethod
    def _check_upstreams(cls, value: Any) -> Any:
        if value != "auto":
            if not value:
                raise ValueError("name at least one upstream, or write `auto`")
            if len({upstream.name for upstream in value}) < len(value):
                raise ValueError("two upstreams have the same name")
        return value

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.memory.is_cluster and self.server.workers != 1:
            raise ValueError(
                "server.workers must be 1 where memory.uri is on S3: to use more cores, start more gateways, each with "
                "a port of its own"
            )
        return self

    @model_validator(mode="after")
    def _check_open_host(self) -> Self:
        if not self.auth.keys and not is_loopback(self.server.host):
            raise ValueError(
                f"server.host is {self.server.host}, which others can reach, but auth.keys is empty: "
                "add a key, or listen on 127.0.0.1"
            )
        return self

    def alone(self, **memory: Any) -> "Config":
        """The configuration of a temporary gateway for one command: a free loopback port, no keys, the offline model.
        `memory` overrides keys of that section."""
        changed = {
            "server": ServerConfig(port=0),
            "auth": AuthConfig(),
            "otel": OtelConfig(),
            "upstreams": (UpstreamConfig(name="stand-in", kind="offline"),),
            "memory": self.memory.model_copy(update={"enabled": True, **memory}),
        }
        return self.model_copy(update=changed)

    @property
    def shows_content(self) -> bool:
        """True if turns and explanations may contain what users and models said."""
        if self.console.content is not None:
            return self.console.content
        return not self.auth.keys and is_loopback(self.server.host)

    @property
    def folder(self) -> Path:
        """The base folder of relative paths."""
        return self._folder

    @property
    def data_folder(self) -> Path:
        """The folder of the memory; in a cluster one for caches, which may be emptied while the gateway is stopped."""
        if self.memory.is_cluster:
            return (self._caches or self._folder / "data").resolve()
        return (self._folder / self.memory.uri).resolve()


def is_loopback(host: str) -> bool:
    """True if only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(
    path: Path,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    data: Path | None = None,
) -> Config:
    """Read and check a configuration file; `host`, `port`, `workers` and `data` (the data folder; in a cluster that
    of caches) override it. Raises `ConfigError` with the path of the invalid key."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: save it in that encoding") from error
    try:
        raw = read_yaml(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # the latter two for invalid dates and numbers
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must be a mapping of sections, not {type(raw).__name__}")
    values = _Expander().expand(raw, "")
    _override(values, "server", host=host, port=port, workers=workers)
    folder = None if data is None else _absolute(data)
    is_cluster = _is_cluster(values)
    _override(values, "memory", uri=None if is_cluster else folder)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    config._folder = path.resolve().parent  # noqa: SLF001 — set by its factory
    if is_cluster:
        config._caches = None if folder is None else Path(folder)  # noqa: SLF001 — as above
        return config
    try:
        check_location(config.data_folder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"memory.uri: is no path of a folder ({error})") from error
    return config


def _is_cluster(values: dict[str, Any]) -> bool:
    memory = values.get("memory")
    uri = memory.get("uri") if isinstance(memory, dict) else None
    return isinstance(uri, str) and is_object_storage(uri)


def _absolute(folder: Path) -> str:
    try:
        return str(folder.expanduser().resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the data folder {str(folder)[:100]!r} is no path ({error})") from error


def _override(values: dict[str, Any], section: str, **overrides: Any) -> None:
    changes = {key: value for key, value in overrides.items() if value is not None}
    if changes and isinstance(values.get(section) or {}, dict):
        values[section] = {**(values.get(section) or {}), **changes}


class _Expander:
    """Replaces environment variables in the strings of a file. Depth and count are limited: YAML aliases can refer to
    themselves, or multiply a small file."""

    def __init__(self) -> None:
        self._remaining = _MAX_VALUES

    def expand(self, value: Any, path: str, depth: int = 0) -> Any:
        """Replace the variables in a value. Raises ConfigError."""
        self._remaining -= 1
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{path[:200]}: is nested too deeply (does an alias refer to itself?)")
        if self._remaining < 0:
            raise ConfigError(f"{path[:200]}: there are more than {_MAX_VALUES} values (do aliases multiply them?)")
        if isinstance(value, str):
            expanded, count = _VARIABLE.subn(lambda match: _variable(match, path), value)
            return FromEnvironment(expanded) if count else value
        if isinstance(value, dict):
            return {
                key: self.expand(item, f"{path}.{key}" if path else str(key), depth + 1) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.expand(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return value


def _variable(match: re.Match[str], path: str) -> str:
    name, default = match.group(1), match.group(2)
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ConfigError(f"{path}: the environment variable {name} is not set (a default is written ${{{name}:-…}})")
    return value


_NO_COMPACTION = "; compaction was removed: memory.retention.max_age_days can name `task` instead"
_REMOVED_KEYS = {
    "memory.recall.gate": "; memory.recall.selectivity replaces it",
    "memory.retention.condense_over": _NO_COMPACTION,
    "memory.retention.condense_after_days": _NO_COMPACTION,
}


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        path = ""
        for part in problem["loc"]:
            if isinstance(part, int):
                path += f"[{part}]"
            elif "[" not in part and part not in ("literal['auto']",):
                path += f".{part}" if path else part
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_REMOVED_KEYS.get(path, '')}"
        lines.append(f"{path or 'config'}: {message}")
    return "\n".join(dict.fromkeys(lines))
