"""The parts of the configuration that are about models: which upstreams there are, and what models are called."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.config.sections import OptionalSecret, Positive, Section

__all__ = ["ModelsConfig", "TimeoutsConfig", "UpstreamConfig"]

_NEVER_FORWARDED = frozenset(
    """authorization api-key x-api-key x-gateway-key cookie host connection keep-alive te trailer transfer-encoding
    upgrade content-length content-encoding accept-encoding proxy-authorization x-memory-user""".split()
)
_Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class TimeoutsConfig(Section):
    connect: Positive = Field(10.0, description="Seconds to reach the upstream.")
    first_byte: Positive = Field(600.0, description="Seconds until the upstream's answer begins.")
    idle: Positive = Field(120.0, description="Seconds between two pieces of an answer.")
    total: float | None = Field(None, gt=0, description="Seconds for a whole answer; null: no limit.")


class UpstreamConfig(Section):
    name: _Token = Field(description="Its name in logs and metrics.")
    kind: Literal["openai", "offline"] = Field("openai", description="`openai`: any compatible server; `offline`.")
    base_url: str = Field("", description="Where it is, with or without `/v1`.")
    api_key: OptionalSecret = Field(None, description="Sent instead of the client's; empty: the client's own goes up.")
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


class ModelsConfig(Section):
    default: str = Field("gpt-5-mini", description="What the model name `default` and MemOS chats mean.")
    aliases: dict[str, str] = Field({}, description="Names of yours → model names of upstreams.")
