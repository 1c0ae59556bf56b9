"""The configuration: one YAML file, checked as a whole before anything starts.

Every key has a default that works. Unknown keys, wrong types and environment variables that are not set stop the
start with the path of the key. `${NAME}` and `${NAME:-default}` are replaced in string values only, after parsing,
so that a value from the environment can never change the shape of the file. Relative paths are relative to the file.
"""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gateway.errors import ConfigError
from gateway.turn import Right

__all__ = [
    "Config",
    "EmbedderConfig",
    "KeyConfig",
    "LimitsConfig",
    "LogConfig",
    "MemoryConfig",
    "PluginConfig",
    "RecallConfig",
    "RetentionConfig",
    "ServerConfig",
    "UpstreamConfig",
    "load",
]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NEVER_FORWARDED = frozenset(
    """authorization api-key x-api-key x-gateway-key cookie host connection keep-alive te trailer transfer-encoding
    upgrade content-length content-encoding accept-encoding proxy-authorization x-memory-user""".split()
)
_Positive = Annotated[float, Field(gt=0)]
_Kind = Literal["turn", "fact", "preference", "tool", "skill", "document"]
_Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


_OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ServerConfig(_Section):
    host: str = Field("127.0.0.1", description="Address to listen on; other than loopback only with `auth.keys`.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    cors_origins: tuple[str, ...] = Field((), description="Origins whose pages may call the gateway from a browser.")
    shutdown_timeout: _Positive = Field(30.0, description="Seconds that running answers get after SIGTERM.")
    keep_alive: float | None = Field(
        None, gt=0, description="Seconds of silence after which a stream gets a comment (`: keep-alive`); null: never."
    )


class KeyConfig(_Section):
    key: SecretStr = Field(description="The secret that a client sends; at least 8 characters.")
    tenant: str = Field("default", description="Hard boundary: equal user ids under two tenants are two users.")
    user: str | None = Field(None, description="Pins the key to one user, whatever a request says.")
    rights: frozenset[Right] = Field(
        frozenset({Right.CHAT, Right.MEMORY}), description="Any of `chat`, `memory`, `admin` (`/product/configure`)."
    )

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < 8:
            raise ValueError("a key has at least 8 characters")
        return key


class AuthConfig(_Section):
    keys: tuple[KeyConfig, ...] = Field((), description="The gateway's own keys. None: open, and only on loopback.")

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[KeyConfig, ...]) -> tuple[KeyConfig, ...]:
        if len({key.key.get_secret_value() for key in keys}) < len(keys):
            raise ValueError("two entries have the same key")
        return keys


class TimeoutsConfig(_Section):
    connect: _Positive = Field(10.0, description="Seconds to reach the upstream.")
    first_byte: _Positive = Field(600.0, description="Seconds until the upstream's answer begins.")
    idle: _Positive = Field(120.0, description="Seconds between two pieces of an answer.")
    total: float | None = Field(None, gt=0, description="Seconds for a whole answer; null: no limit.")


class UpstreamConfig(_Section):
    name: _Token = Field(description="Its name in logs and metrics.")
    kind: Literal["openai", "offline"] = Field("openai", description="`openai`: any compatible server; `offline`.")
    base_url: str = Field("", description="Where it is, with or without `/v1`.")
    api_key: _OptionalSecret = Field(None, description="Sent instead of the client's; empty: the client's own goes up.")
    models: tuple[str, ...] = Field(("*",), description="Patterns of the model names that go here.")
    encoding: str | None = Field(None, description="tiktoken encoding; null: by model name, else o200k_base.")
    context_window: int | None = Field(None, gt=0, description="Tokens; the block shrinks to fit. null: not known.")
    forward_headers: tuple[str, ...] = Field((), description="More request headers to pass on, by name.")
    headers: dict[str, SecretStr] = Field({}, description="Headers added to each request to this upstream.")
    timeouts: TimeoutsConfig = Field(TimeoutsConfig(), description="The four time-outs.")

    @field_validator("forward_headers")
    @classmethod
    def _no_keys_up(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        refused = {name for name in names if name.lower() in _NEVER_FORWARDED}
        if refused:
            raise ValueError(f"never forwarded: {', '.join(sorted(refused))}")
        return names

    @model_validator(mode="after")
    def _address(self) -> Self:
        if self.kind == "openai" and not re.match(r"^https?://[^/\s?#@]+(/[^\s?#]*)?$", self.base_url):
            raise ValueError("base_url must be http:// or https:// with a host, without user, query or fragment")
        return self


class ModelsConfig(_Section):
    default: str = Field("gpt-5-mini", description="What the model name `default` and MemOS chats mean.")
    aliases: dict[str, str] = Field({}, description="Names of yours → model names of upstreams.")


class EmbedderConfig(_Section):
    kind: Literal["local", "openai"] = Field("local", description="`local`: embedded, offline. `openai`: a server.")
    base_url: str = Field("https://api.openai.com/v1", description="Only `openai`: where `/embeddings` is.")
    api_key: _OptionalSecret = Field(None, description="Only `openai`: its key.")
    model: str = Field("text-embedding-3-small", description="Only `openai`: the model.")
    dimensions: int = Field(512, gt=0, le=8192, description="Only `openai`: length of its vectors.")
    timeout: _Positive = Field(10.0, description="Only `openai`: seconds for one batch of documents.")
    batch_size: int = Field(64, gt=0, le=2048, description="Only `openai`: texts in one request.")


class RecallConfig(_Section):
    token_budget: int = Field(1024, ge=0, description="Tokens that the injected block may have, fence included.")
    top_k: int = Field(
        100, ge=1, le=1000, description="Memories that one turn may get; the budget is what usually limits."
    )
    deadline_ms: int = Field(150, ge=1, description="After that a request goes on without memory.")
    cold_deadline_ms: int = Field(400, ge=1, description="The same for a user whose memories are not in RAM yet.")
    placement: Literal["tail", "system"] = Field("tail", description="Last user message, or the system prompt.")
    min_relativity: float = Field(0.0, ge=0, le=1, description="Relevance floor of each memory injected; 0: none.")
    gate: float = Field(0.3, ge=0, le=1, description="Nothing is injected if not even the best memory is so relevant.")
    explain_turns: int = Field(100, ge=0, le=10_000, description="Latest turns whose recall can be explained; in RAM.")
    working_set_rows: int = Field(
        200_000, ge=1000, description="Memories of one scope held in RAM; a larger one is searched in LanceDB."
    )
    working_set_mb: int = Field(512, ge=16, description="MiB for all working sets; the least used leaves first.")


class RememberConfig(_Section):
    partial_answers: bool = Field(False, description="Also keep answers that were cut, marked as such.")
    preferences: bool = Field(True, description="Recognise explicit preferences by patterns, without a model.")
    max_message_bytes: int = Field(65_536, ge=1024, description="Longer messages are stored cut.")
    batch_window_ms: int = Field(40, ge=0, le=1000, description="How long the writer gathers a batch.")
    max_backlog_mb: int = Field(1024, ge=1, description="Journal size at which new memories are shed (never chats).")


class RetentionConfig(_Section):
    max_age_days: dict[_Kind, _Positive] = Field(
        {}, description="Days that memories of a kind stay, e.g. `{turn: 365}`; others stay for good."
    )
    max_per_cube: int | None = Field(None, ge=100, description="Memories of one cube; the oldest go. null: no limit.")
    purge_after_hours: _Positive = Field(
        24.0, description="Hours after which what was deleted or changed is gone from the files too."
    )
    every_minutes: _Positive = Field(60.0, description="How often that is looked after.")


class ExtractionConfig(_Section):
    model: str | None = Field(None, description="Model asked on the gateway's own account; null: `models.default`.")
    timeout: _Positive = Field(20.0, description="Seconds that such a question may take.")


class DocumentsConfig(_Section):
    allow_urls: bool = Field(False, description="May the contents of files be named by a public web address?")
    max_mb: int = Field(100, ge=1, le=1024, description="MiB of one file; a request is bounded by `limits.body_mb`.")


class MemoryConfig(_Section):
    enabled: bool = Field(True, description="false: a plain proxy.")
    uri: str = Field("./data", description="Folder of the memory.")
    default_user: str | None = Field(None, description="The user of requests that name none; null: no memory then.")
    buckets: int = Field(
        16, ge=1, le=256, description="Tables the memory is split into; fixed when the folder is made."
    )
    embedder: EmbedderConfig = Field(EmbedderConfig(), description="What makes vectors.")
    recall: RecallConfig = Field(RecallConfig(), description="Reading memory.")
    remember: RememberConfig = Field(RememberConfig(), description="Writing memory.")
    retention: RetentionConfig = Field(RetentionConfig(), description="How long memories stay.")
    extraction: ExtractionConfig = Field(ExtractionConfig(), description="What a model is asked in the background.")
    documents: DocumentsConfig = Field(DocumentsConfig(), description="Files of knowledge bases.")


class LimitsConfig(_Section):
    body_mb: int = Field(32, ge=1, le=1024, description="MiB of a request body.")
    body_timeout: _Positive = Field(45.0, description="Seconds in which a request body must arrive.")
    json_depth: int = Field(64, ge=8, le=512, description="Nesting of a JSON body.")
    json_values: int = Field(400_000, ge=1000, description="Values in a JSON body, whatever stands in strings aside.")
    messages: int = Field(2048, ge=1, description="Messages in one request.")
    silence: _Positive = Field(20.0, description="Seconds until a plain MemOS answer begins with white space.")
    in_flight: int = Field(1024, ge=1, description="Requests at once; more get 503 with `Retry-After`.")
    in_flight_per_key: int = Field(256, ge=1, description="Requests at once with one key; more get 429.")


class LogConfig(_Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")


class PluginConfig(_Section):
    use: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.:]*$", description="Module of `plugins/`, or `package.module:Class`."
    )
    enabled: bool = Field(True, description="false: not loaded.")
    on_failure: Literal["open", "closed"] | None = Field(None, description="null: as the plugin declares.")
    timeout_ms: int = Field(1000, ge=1, le=60_000, description="Time limit of one hook call.")
    config: dict[str, Any] = Field({}, description="The plugin's own settings, checked by its `Config`.")


class Config(_Section):
    """The whole file."""

    server: ServerConfig = Field(ServerConfig(), description="Where it listens.")
    auth: AuthConfig = Field(AuthConfig(), description="Who may use it.")
    upstreams: Literal["auto"] | tuple[UpstreamConfig, ...] = Field(
        "auto",
        description="Where models are; `auto`: OpenAI if OPENAI_API_KEY is set, else a local server, else offline.",
    )
    models: ModelsConfig = Field(ModelsConfig(), description="Names of models.")
    memory: MemoryConfig = Field(MemoryConfig(), description="The memory.")
    limits: LimitsConfig = Field(LimitsConfig(), description="What a client may send.")
    log: LogConfig = Field(LogConfig(), description="JSON lines on standard error.")
    plugins: tuple[PluginConfig, ...] = Field((), description="In the order in which they see a request.")

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @field_validator("upstreams")
    @classmethod
    def _upstream_names(cls, value: Any) -> Any:
        if value != "auto":
            if not value:
                raise ValueError("name at least one upstream, or write `auto`")
            if len({upstream.name for upstream in value}) < len(value):
                raise ValueError("two upstreams have the same name")
        return value

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if not self.auth.keys and not is_loopback(self.server.host):
            raise ValueError(
                f"server.host is {self.server.host}, which others can reach, but auth.keys is empty: "
                "add a key, or listen on 127.0.0.1"
            )
        return self

    def alone(self, **memory: Any) -> "Config":
        """The same for a gateway of one command's own: a free port of this machine, no keys, the stand-in for a model.
        `memory` are changes of that section."""
        changed = {
            "server": ServerConfig(port=0),
            "auth": AuthConfig(),
            "upstreams": (UpstreamConfig(name="stand-in", kind="offline"),),
            "memory": self.memory.model_copy(update={"enabled": True, **memory}),
        }
        return self.model_copy(update=changed)

    @property
    def folder(self) -> Path:
        """The folder that relative paths are relative to."""
        return self._folder

    @property
    def data_folder(self) -> Path:
        return (self._folder / self.memory.uri).resolve()


def is_loopback(host: str) -> bool:
    """True if only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(path: Path, *, host: str | None = None, port: int | None = None) -> Config:
    """Read and check a configuration file. Raises `ConfigError` with the path of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must be a mapping of sections, not {type(raw).__name__}")
    server = raw.get("server")
    if host is not None or port is not None:
        overrides = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
        raw["server"] = {**(server if isinstance(server, dict) else {}), **overrides}
    try:
        config = Config.model_validate(_expand(raw, ""))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    config._folder = path.resolve().parent  # noqa: SLF001 — its maker
    return config


def _expand(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, path), value)
    if isinstance(value, dict):
        return {key: _expand(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return value


def _variable(match: re.Match[str], path: str) -> str:
    name, default = match.group(1), match.group(2)
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ConfigError(f"{path}: the environment variable {name} is not set (a default is written ${{{name}:-…}})")
    return value


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
            message = "unknown key"
        lines.append(f"{path or 'config'}: {message}")
    return "\n".join(dict.fromkeys(lines))
