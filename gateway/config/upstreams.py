"""Configuration sections of upstreams and model names."""

import contextlib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.config.secrets import HeaderValue, OptionalKey
from gateway.config.sections import OptionalSecret, Positive, Section
from gateway.config.upstream_kinds import UPSTREAM_KINDS, UpstreamRules

__all__ = ["ModelsConfig", "TimeoutsConfig", "TlsConfig", "UpstreamConfig"]

_NEVER_FORWARDED = frozenset(
    """authorization api-key x-api-key x-gateway-key cookie host connection keep-alive te trailer transfer-encoding
    upgrade content-length content-encoding accept-encoding proxy-authorization x-memory-user""".split()
)
_Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class TimeoutsConfig(Section):
    connect: Positive = Field(10.0, description="Seconds to connect to the upstream.")
    first_byte: Positive = Field(600.0, description="Seconds until the response begins.")
    idle: Positive = Field(120.0, description="Seconds between two chunks of a response.")
    total: float | None = Field(None, gt=0, description="Seconds for a whole response; null: no limit.")


class TlsConfig(Section):
    verify: bool = Field(True, description="Verify the server's certificate.")
    ca_file: str | None = Field(None, description="PEM file of trusted certificate authorities; null: the system's.")
    cert_file: str | None = Field(None, description="PEM file of the client certificate, for servers that require one.")
    key_file: str | None = Field(
        None, description="PEM file of the client certificate's key; null: it is in `cert_file`."
    )


class UpstreamConfig(Section):
    name: _Token = Field(description="Name in logs and metrics, and in `model: name/model`.")
    kind: str = Field(
        "openai",
        description="`openai`: any compatible server; `anthropic`: Anthropic's own format; `any-llm`: a provider's "
        "SDK, by the extra of that name; `offline`; or a kind of an installed package.",
    )
    provider: _Token | None = Field(None, description="Only `any-llm`: the provider's name in any-llm.")
    base_url: str = Field(
        "", description="URL of the server, with or without `/v1`; `{model}` is replaced by the model's name."
    )
    api_key: OptionalKey = Field(
        None, description="API key sent instead of the client's; null: the client's key is forwarded."
    )
    key_header: Literal["authorization", "api-key", "x-api-key"] | None = Field(
        None, description="Header that carries the API key; null: `authorization`, or `x-api-key` for `anthropic`."
    )
    models: tuple[str, ...] = Field(("*",), description="Patterns of the model names routed to this upstream.")
    weight: float | None = Field(
        None,
        ge=0,
        description="Load-balancing weight among adjacent upstreams that have one; null: tried in the list's order.",
    )
    max_in_flight: int | None = Field(
        None,
        gt=0,
        description="Concurrent requests; further ones go to another upstream, or wait. Divided among "
        "`server.workers`. null: no limit.",
    )
    native_messages: bool = Field(
        False, description="Only `openai`: the server implements `/v1/messages`; false: translated to chat completions."
    )
    encoding: str | None = Field(None, description="tiktoken encoding; null: by model name, else o200k_base.")
    context_window: int | None = Field(
        None, gt=0, description="Context window in tokens; the memory block shrinks to fit. null: unknown."
    )
    forward_headers: tuple[str, ...] = Field((), description="Names of additional request headers to forward.")
    headers: dict[str, HeaderValue] = Field({}, description="Headers added to each request to this upstream.")
    query: dict[str, SecretStr] = Field({}, description="Query parameters added to each request, e.g. `api-version`.")
    proxy: OptionalSecret = Field(None, description="HTTP proxy to this upstream, `http://[user:password@]host:port`.")
    tls: TlsConfig = Field(TlsConfig(), description="Server verification and client certificate.")
    timeouts: TimeoutsConfig = Field(TimeoutsConfig(), description="The four time-outs.")

    @property
    def rules(self) -> UpstreamRules:
        """The rules of its kind."""
        return UPSTREAM_KINDS[self.kind]

    @field_validator("kind", mode="before")
    @classmethod
    def _check_kind(cls, kind: Any) -> str:
        return UPSTREAM_KINDS.check(kind)

    @field_validator("forward_headers")
    @classmethod
    def _check_forwarded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        refused = {name for name in names if name.lower() in _NEVER_FORWARDED}
        if refused:
            raise ValueError(f"never forwarded: {', '.join(sorted(refused))}")
        return names

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None and not re.match(r"^https?://[^/\s?#]+/?$", proxy.get_secret_value()):
            raise ValueError("a proxy is http://host:port, with user:password@ if it asks for them")
        return proxy

    @model_validator(mode="before")
    @classmethod
    def _set_default_address(cls, values: Any) -> Any:
        kind = values.get("kind") if isinstance(values, dict) else None
        with contextlib.suppress(ValueError):  # the kind's own check reports it
            rules = UPSTREAM_KINDS.find(kind) if isinstance(kind, str) else None
            if rules is not None and rules.default_url:
                return {"base_url": rules.default_url, **values}
        return values

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        rules = self.rules
        if rules.has_provider != (self.provider is not None):
            names = " or ".join(kind.name for kind in UPSTREAM_KINDS if kind.has_provider)
            raise ValueError(f"kind {names} needs a provider, and no other kind has one")
        if not rules.has_connection and (self.headers or self.query or self.proxy or self.tls != TlsConfig()):
            raise ValueError(f"kind {self.kind} takes no headers, query, proxy or tls: its SDK makes the connection")
        if rules.url == "unused" or (rules.url == "optional" and not self.base_url):
            return self
        if not re.match(r"^https?://[^/\s?#@]+(/[^\s?#]*)?$", self.base_url):
            raise ValueError("base_url must be http:// or https:// with a host, without user, query or fragment")
        return self


class ModelsConfig(Section):
    default: str = Field("gpt-5-mini", description="Model used for the name `default` and for MemOS chats.")
    aliases: dict[str, str] = Field(
        {}, description="Your names → model names of upstreams, or `upstream/name` for a particular one."
    )
    fallbacks: dict[str, tuple[str, ...]] = Field(
        {},
        description="Model → models to try instead, in order, if its upstreams fail or its context is exceeded.",
    )
