"""Builds upstreams by their kind: built-in ones, and those that a process or a package adds."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.config import UpstreamConfig
from gateway.config.upstream_kinds import UPSTREAM_KINDS, UpstreamRules
from gateway.errors import ConfigError
from gateway.upstream.adapters import ChatOverMessages, MessagesOverChat
from gateway.upstream.any_llm import AnyLlmUpstream
from gateway.upstream.client import HttpUpstream, Upstream
from gateway.upstream.offline import OfflineUpstream

__all__ = ["BuildUpstream", "UpstreamKind", "UpstreamParts", "build_upstream", "register"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamParts:
    """Parts of the process that upstreams use.

    All share the HTTP `session`. Relative paths in the configuration are relative to `folder`. `count` counts tokens,
    for servers that do not. `on_stop` registers the function that closes an upstream.
    """

    session: aiohttp.ClientSession
    folder: Path
    count: Callable[[str], int]
    on_stop: Callable[[Callable[[], Awaitable[None]]], Any]


BuildUpstream = Callable[[UpstreamConfig, UpstreamParts], Upstream]
"""Builds an upstream from its entry in the configuration. It runs in a thread. Raises ConfigError."""


@dataclass(frozen=True, kw_only=True)
class UpstreamKind(UpstreamRules):
    """A kind of upstreams that is added: its rules, and the function that builds one."""

    build: BuildUpstream


def register(kind: UpstreamKind) -> None:
    """Add a kind, before the configuration is read. Raises ValueError if its name is taken."""
    UPSTREAM_KINDS.register(kind)


def build_upstream(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    """Build the upstream of an entry; it may read files, so run it in a thread. Raises ConfigError."""
    rules = config.rules
    build = rules.build if isinstance(rules, UpstreamKind) else _BUILT_IN.get(rules.name)
    if build is None:
        raise ConfigError(f"upstreams: {config.name}: the kind {rules.name!r} is no UpstreamKind, so it has no `build`")
    return build(config, parts)


def _build_openai(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    upstream = HttpUpstream(config, parts.session, parts.folder)
    return upstream if config.native_messages else MessagesOverChat(upstream, parts.count)


def _build_anthropic(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    return ChatOverMessages(HttpUpstream(config, parts.session, parts.folder))


def _build_any_llm(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    upstream = AnyLlmUpstream(config)
    parts.on_stop(upstream.close)
    return MessagesOverChat(upstream, parts.count)


def _build_offline(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    return MessagesOverChat(OfflineUpstream(config), parts.count)


_BUILT_IN: Final[dict[str, BuildUpstream]] = {
    "openai": _build_openai,
    "anthropic": _build_anthropic,
    "any-llm": _build_any_llm,
    "offline": _build_offline,
}
