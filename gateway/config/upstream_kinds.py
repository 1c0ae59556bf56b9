"""The kinds of upstreams, as far as a configuration knows them: their names, and what their entries may contain."""

from dataclasses import dataclass
from typing import Final, Literal

from gateway.config.registry import KindRegistry

__all__ = ["UPSTREAM_KINDS", "UpstreamRules"]


@dataclass(frozen=True, kw_only=True)
class UpstreamRules:
    """What the configuration and the stages of a request know of a kind of upstreams.

    `url` tells whether an entry needs a `base_url`, may have one, or ignores it; `default_url` is used where there is
    none. `has_provider`: an entry names a provider. `has_connection`: the gateway makes the connection, so `headers`,
    `query`, `proxy` and `tls` have an effect. `key_header` carries the API key unless the entry names another header.
    `forwards_keys`: the client's key is sent where the entry has none. `is_language_model`: its answers are worth
    remembering, and it can answer the gateway's own questions.
    """

    name: str
    url: Literal["needed", "optional", "unused"] = "needed"
    default_url: str = ""
    has_provider: bool = False
    has_connection: bool = True
    key_header: str = "authorization"
    forwards_keys: bool = True
    is_language_model: bool = True


UPSTREAM_KINDS: Final = KindRegistry(
    "memory_gateway.upstreams",
    UpstreamRules,
    (
        UpstreamRules(name="openai"),
        UpstreamRules(name="anthropic", default_url="https://api.anthropic.com/v1", key_header="x-api-key"),
        UpstreamRules(name="any-llm", url="optional", has_provider=True, has_connection=False, forwards_keys=False),
        UpstreamRules(name="offline", url="unused", forwards_keys=False, is_language_model=False),
    ),
)
