"""Which upstreams have a model, and what it is called there. Pure.

A name is one of ours (`default`, an alias), `upstream/name` for a certain upstream, or matched against the patterns of
all upstreams. A name that an upstream lists as it stands wins over `upstream/name`: `openai/gpt-5` may be what a
router of models calls it.
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


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream, and the name that the model has there."""

    upstream: Upstream
    model: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request can go, in order; never empty. `asked` is the name that the client used."""

    targets: tuple[Target, ...]
    asked: str

    @property
    def upstream(self) -> Upstream:
        """The one that is asked first."""
        return self.targets[0].upstream

    @property
    def model(self) -> str:
        """The name of the model there."""
        return self.targets[0].model

    def only(self, upstream: str) -> "Route":
        """The same for one upstream, where it is among them."""
        own = tuple(target for target in self.targets if target.upstream.name == upstream)
        return replace(self, targets=own) if own else self

    def roomier(self, full: Target) -> "Route | None":
        """Where a prompt may fit that was too long for a target: other models after it, none known to hold less."""
        window = full.upstream.config.context_window
        later = self.targets[self.targets.index(full) + 1 :]
        left = tuple(
            one
            for one in later
            if one.model != full.model
            and (window is None or (one.upstream.config.context_window or window + 1) > window)
        )
        return replace(self, targets=left) if left else None


class Routes:
    """The upstreams and the names of models, as configured."""

    def __init__(self, upstreams: Sequence[Upstream], models: ModelsConfig) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._matchers = [(upstream, _matcher(upstream.config.models)) for upstream in upstreams]
        self._listed = {name for upstream in upstreams for name in upstream.config.models}
        self._models = models

    @property
    def upstreams(self) -> list[Upstream]:
        return list(self._upstreams.values())

    def route(self, model: str) -> Route:
        """Where a model is, then its fallbacks. Raises NotFound (`model_not_found`)."""
        name = self._named(model)
        fallbacks = self._models.fallbacks.get(model) or self._models.fallbacks.get(name) or ()
        targets = self._targets(name)
        for fallback in fallbacks:
            targets += self._targets(self._named(fallback))
        if not targets:
            raise NotFound(f"no upstream has the model {model[:100]!r}", code="model_not_found", param="model")
        return Route(tuple(dict.fromkeys(targets)), model)

    def _named(self, model: str) -> str:
        name = self._models.default if model == _DEFAULT else model
        return self._models.aliases.get(name, name)

    def _targets(self, name: str) -> list[Target]:
        first, slash, rest = name.partition("/")
        if slash and rest and name not in self._listed and first in self._upstreams:
            return [Target(self._upstreams[first], rest)]
        return [Target(upstream, name) for upstream, matches in self._matchers if matches(name)]


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    if "*" in patterns:
        return lambda _: True
    compiled = re.compile("|".join(map(fnmatch.translate, patterns)))
    return lambda name: compiled.match(name) is not None
