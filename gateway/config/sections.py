"""Configuration sections of the process: server, authentication, limits, logging, usage, plugins."""

import re
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.config.ids import problem_of_id
from gateway.config.numbers import check_numbers
from gateway.config.rights import Right
from gateway.config.secrets import HeaderValue, RequiredKey

__all__ = [
    "AuthConfig",
    "ConsoleConfig",
    "Id",
    "KeyConfig",
    "LimitsConfig",
    "LogConfig",
    "OptionalSecret",
    "OtelConfig",
    "PluginConfig",
    "Positive",
    "Section",
    "ServerConfig",
    "UsageConfig",
]

Positive = Annotated[float, Field(gt=0)]


def _check_id(value: str) -> str:
    problem = problem_of_id(value)
    if problem:
        raise ValueError(problem)
    return value


Id = Annotated[str, AfterValidator(_check_id)]
"""An id of a tenant or a user."""


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        return check_numbers(cls, value, info)


class ServerConfig(Section):
    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback requires `auth.keys`.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    workers: int = Field(
        1,
        ge=0,
        le=64,
        description="Processes that answer chats; 0: one for each core that the gateway may use. More than 1 not on "
        "Windows. Limits that are divided among them are rounded up.",
    )
    cors_origins: tuple[str, ...] = Field((), description="Origins allowed to call the gateway from a browser (CORS).")
    shutdown_timeout: Positive = Field(30.0, description="Seconds that responses in progress may take after SIGTERM.")
    keep_alive: float | None = Field(
        None,
        gt=0,
        description="Seconds of silence after which a stream is sent a comment (`: keep-alive`); null: never.",
    )

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, workers: int) -> int:
        if workers > 1 and sys.platform == "win32":
            raise ValueError("Windows cannot share a port between processes: set it to 1")
        return workers


class KeyConfig(Section):
    key: RequiredKey = Field(description="The secret that clients send; at least 8 characters.")
    name: str | None = Field(None, description="Name of the key in usage reports; null: `key-1`, `key-2`, …")
    tenant: Id = Field("default", description="Isolation boundary: the same user id under two tenants is two users.")
    user: Id | None = Field(None, description="The only user that this key acts for, whatever a request names.")
    rights: frozenset[Right] = Field(
        frozenset({Right.CHAT, Right.MEMORY}),
        description="Any of `chat`, `memory`, `admin` (`/product/configure`), `upstream_state` (files, batches and the "
        "like that upstreams keep; implied where all keys have one tenant and user), `public` (memories for all users "
        "of the tenant; implied for keys without `user`).",
    )

    @field_validator("key")
    @classmethod
    def _check_length(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < 8:
            raise ValueError("a key has at least 8 characters")
        return key

    @model_validator(mode="after")
    def _check_rights(self) -> Self:
        if self.user is not None and Right.ADMIN in self.rights:
            raise ValueError("the right `admin` is over a whole tenant: a key that is pinned to a user cannot have it")
        return self


class AuthConfig(Section):
    keys: tuple[KeyConfig, ...] = Field(
        (), description="The gateway's own API keys. None: no authentication, and only on loopback."
    )

    @field_validator("keys")
    @classmethod
    def _check_distinct(cls, keys: tuple[KeyConfig, ...]) -> tuple[KeyConfig, ...]:
        if len({key.key.get_secret_value() for key in keys}) < len(keys):
            raise ValueError("two entries have the same key")
        return keys


class LimitsConfig(Section):
    body_mb: int = Field(32, ge=1, le=1024, description="Maximum MiB of a request body.")
    body_timeout: Positive = Field(45.0, description="Timeout in seconds for receiving a request body.")
    json_depth: int = Field(64, ge=8, le=512, description="Maximum nesting depth of a JSON body.")
    json_values: int = Field(
        400_000, ge=1000, description="Maximum number of values in a JSON body, not counting JSON inside strings."
    )
    messages: int = Field(2048, ge=1, description="Maximum messages per request.")
    silence: Positive = Field(
        20.0,
        description="Seconds of silence after which a MemOS response sends white space to keep the connection open.",
    )
    in_flight: int = Field(
        1024,
        ge=1,
        description="Concurrent requests; further ones get 503 with `Retry-After`. Divided among `server.workers`.",
    )
    in_flight_per_key: int = Field(
        256, ge=1, description="Concurrent requests per key; further ones get 429. Divided likewise."
    )
    bytes_in_flight: int = Field(
        512 * 2**20,
        ge=2**20,
        description="Total bytes of request bodies in memory; beyond that 503 with `Retry-After`. Divided likewise.",
    )
    bytes_in_flight_per_key: int = Field(
        256 * 2**20, ge=2**20, description="The same per key; beyond that 429. Divided likewise."
    )


class LogConfig(Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Minimum log level.")


class OtelConfig(Section):
    enabled: bool = Field(False, description="Export traces by OTLP over HTTP; needs the extra `otel`.")
    endpoint: str | None = Field(
        None,
        description="Base address of the collector, `/v1/traces` is added; null: the variables of OpenTelemetry, such "
        "as `OTEL_EXPORTER_OTLP_ENDPOINT`, else port 4318 of this machine.",
    )
    headers: dict[str, HeaderValue] = Field({}, description="Headers for the collector, such as its key.")
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of the turns that are traced; those of a client's trace follow its choice."
    )
    content: bool = Field(
        False, description="Export the user's messages, the answer and the memories, after the plugins' store hook."
    )
    metrics: bool = Field(True, description="Also export the metrics of the GenAI conventions.")
    service_name: str | None = Field(
        None, description="`service.name`; null: the variable `OTEL_SERVICE_NAME`, else `memory-gateway`."
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.match(r"^https?://[^/\s?#@]+(/[^\s?#]*)?$", endpoint):
            raise ValueError("must be http:// or https:// with a host, without user, query or fragment")
        return endpoint


class PriceConfig(Section):
    """US dollars a million tokens."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    cached: float | None = Field(
        None, ge=0, description="Of a prompt's part that came from a cache; null: as `prompt`."
    )
    written: float | None = Field(None, ge=0, description="Of its part that was put into one; null: as `prompt`.")


class UsageConfig(Section):
    enabled: bool = Field(True, description="Record token usage by hour, key, user, model and upstream.")
    prices: dict[str, PriceConfig] = Field(
        {},
        description="Model name pattern → US dollars per million tokens: `prompt`, `completion`, `cached`, `written`.",
    )


class ConsoleConfig(Section):
    enabled: bool = Field(True, description="Record the latest turns, and serve them at `/v1/turns` and the console.")
    content: bool | None = Field(
        None,
        description="Show the user's words and whole prompts in turns and explanations; null: only without `auth.keys` "
        "and on loopback.",
    )
    turns: int = Field(10_000, ge=1, le=100_000, description="Number of turns that are kept in RAM; about 1 KiB each.")
    subscribers: int = Field(32, ge=1, le=1024, description="Clients that may read the stream of turns at once.")
    session_hours: Positive = Field(12.0, description="Hours that a sign-in to the console is valid.")


class PluginConfig(Section):
    use: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.:]*$", description="Module of `plugins/`, or `package.module:Class`."
    )
    enabled: bool = Field(True, description="Load the plugin.")
    on_failure: Literal["open", "closed"] | None = Field(
        None, description="`open` or `closed`; null: as the plugin declares."
    )
    timeout_ms: int = Field(1000, ge=1, le=60_000, description="Time limit of one hook call.")
    config: dict[str, Any] = Field({}, description="Settings of the plugin, validated by its `Config`.")
