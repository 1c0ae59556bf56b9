"""Resolves a model name to upstreams and to the model's name at each. Pure.

A name is one of the gateway's own (`default`, an alias), `upstream/name` for one upstream, or matched against the
patterns of all upstreams. A name that an upstream lists literally wins over `upstream/name`, because model routers use
names such as `openai/gpt-5`.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.config import ModelsConfig
from gateway.errors import NotFound
from gateway.upstream.client import Upstream

__all__ = ["Route", "Routes", "Target"]

_DEFAULT: Final = "default"
_MAX_ROUTES, _MAX_MODEL_NAME = 1024, 200  # routes that are kept, and characters of their models' names


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream and the model's name there."""

    upstream: Upstream
    model: str


@dataclass(frozen=True, slots=True)
class Route:
    """The targets of a request in order of preference; never empty. `asked` is the model name that the client used."""

    targets: tuple[Target, ...]
    asked: str

    @property
    def upstream(self) -> Upstream:
        """The upstream of the first target."""
        return self.targets[0].upstream

    @property
    def model(self) -> str:
        """The model's name at the first target."""
        return self.targets[0].model

    def only(self, upstream: str) -> "Route":
        """The route restricted to one upstream; unchanged if that upstream is not in it."""
        targets = tuple(target for target in self.targets if target.upstream.name == upstream)
        return replace(self, targets=targets) if targets else self

    def roomier(self, full: Target) -> "Route | None":
        """The route for a prompt that exceeded the context window of the target `full`: the later targets with another
        model, except those whose window is known not to be larger. None if there are none."""
        if len(self.targets) == 1:
            return None
        window = full.upstream.config.context_window
        later = self.targets[self.targets.index(full) + 1 :]
        candidates = tuple(
            target
            for target in later
            if target.model != full.model
            and (window is None or (target.upstream.config.context_window or window + 1) > window)
        )
        return replace(self, targets=candidates) if candidates else None


class Routes:
    """The configured upstreams, model aliases and fallbacks."""

    def __init__(self, upstreams: Sequence[Upstream], models: ModelsConfig) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._matchers = [(upstream, _matcher(upstream.config.models)) for upstream in upstreams]
        self._literal_names = {name for upstream in upstreams for name in upstream.config.models}
        self._models = models
        self._routes: dict[str, Route] = {}  # of models that were asked for

    @property
    def upstreams(self) -> list[Upstream]:
        return list(self._upstreams.values())

    def route(self, model: str) -> Route:
        """The route of a model: its upstreams, then its fallbacks. Raises NotFound (`model_not_found`)."""
        route = self._routes.get(model)
        if route is None:
            route = self._find(model)
            if len(self._routes) < _MAX_ROUTES and len(model) <= _MAX_MODEL_NAME:
                self._routes[model] = route
        return route

    def _find(self, model: str) -> Route:
        name = self._resolve_alias(model)
        fallbacks = self._models.fallbacks.get(model) or self._models.fallbacks.get(name) or ()
        targets = self._targets(name)
        for fallback in fallbacks:
            targets += self._targets(self._resolve_alias(fallback))
        if not targets:
            raise NotFound(f"no upstream has the model {model[:100]!r}", code="model_not_found", param="model")
        return Route(tuple(dict.fromkeys(targets)), model)

    def _resolve_alias(self, model: str) -> str:
        """The model name after `default` and aliases."""
        name = self._models.default if model == _DEFAULT else model
        return self._models.aliases.get(name, name)

    def _targets(self, name: str) -> list[Target]:
        first, slash, rest = name.partition("/")
        if slash and rest and name not in self._literal_names and first in self._upstreams:
            return [Target(self._upstreams[first], rest)]
        return [Target(upstream, name) for upstream, matches in self._matchers if matches(name)]


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A predicate that is true for names matching any of the glob patterns."""
    if "*" in patterns:
        return lambda _: True
    compiled = re.compile("|".join(map(fnmatch.translate, patterns)))
    return lambda name: compiled.match(name) is not None
