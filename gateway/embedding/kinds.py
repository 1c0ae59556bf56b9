"""Builds embedders by their kind: built-in ones, and those that a process or a package adds.

An embedder's name is stored beside its vectors, so that it can be built again after another one was configured. All but
the bundled model are named `kind:model:dimensions`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.config import EmbedderConfig
from gateway.config.embedder_kinds import EMBEDDER_KINDS, EmbedderRules
from gateway.embedding.calibration import Calibration, Calibrations
from gateway.embedding.embedders import Embedder, LocalEmbedder, OpenAIEmbedder
from gateway.errors import ConfigError

if TYPE_CHECKING:
    import aiohttp

__all__ = ["BuildEmbedder", "EmbedderKind", "EmbedderName", "EmbedderParts", "Embedders", "register"]

_log = logging.getLogger("gateway.embed")


@dataclass(frozen=True, slots=True)
class EmbedderName:
    """The parts of an embedder's name; `str()` joins them."""

    kind: str
    model: str
    dimensions: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.model}:{self.dimensions}"

    @classmethod
    def parse(cls, name: str) -> "EmbedderName | None":
        """The parts of a name; None if it is of another form. A model's name may contain colons."""
        kind, _, rest = name.partition(":")
        model, _, dimensions = rest.rpartition(":")
        return cls(kind, model, int(dimensions)) if model and dimensions.isdecimal() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderParts:
    """Values that an embedder is built from, beside its configuration.

    `name` is the name that it must have. `session` is the process's HTTP session. `scale` is the stored scale of its
    cosines (None: not measured yet); `on_measured` stores one, and runs in a thread.
    """

    name: str
    session: "aiohttp.ClientSession"
    scale: Calibration | None
    on_measured: Callable[[str, Calibration], None]


BuildEmbedder = Callable[[EmbedderConfig, EmbedderParts], Embedder]
"""Builds an embedder without loading its model, which `start` does. Raises ConfigError."""


@dataclass(frozen=True, kw_only=True)
class EmbedderKind(EmbedderRules):
    """A kind of embedders that is added: its name, and the function that builds one."""

    build: BuildEmbedder


def register(kind: EmbedderKind) -> None:
    """Add a kind, before the configuration is read. Raises ValueError if its name is taken."""
    EMBEDDER_KINDS.register(kind)


class Embedders:
    """The configured embedder, and earlier ones as long as stored memories have vectors of theirs."""

    def __init__(self, config: EmbedderConfig, session: "aiohttp.ClientSession", scales: Calibrations) -> None:
        """Raises ConfigError."""
        self._config = config
        self._session = session
        self._scales = scales
        self.current = self._build(config)
        self._by_name: dict[str, Embedder | None] = {self.current.name: self.current}

    def named(self, name: str) -> Embedder | None:
        """The embedder of this name; None if this configuration cannot provide it. The first call may load a package,
        so run it in a thread."""
        if name not in self._by_name:
            self._by_name[name] = self._build_earlier(name)
        return self._by_name[name]

    @property
    def code(self) -> str | None:
        """What computes the current embedder's vectors: `native` with its instructions, `numpy`, or `remote` for one
        that says nothing; None before its model is loaded."""
        code: str | None = getattr(self.current, "code", "remote")
        return code

    async def stop(self) -> None:
        for embedder in self._by_name.values():
            if embedder is not None:
                await embedder.stop()

    def _build(self, config: EmbedderConfig) -> Embedder:
        kind = EMBEDDER_KINDS[config.kind]
        build = kind.build if isinstance(kind, EmbedderKind) else _BUILT_IN.get(kind.name)
        if build is None:
            raise ConfigError(f"memory.embedder.kind: {kind.name!r} is no EmbedderKind, so it has no `build`")
        name = str(EmbedderName(config.kind, config.model, config.dimensions))
        parts = EmbedderParts(
            name=name, session=self._session, scale=self._scales.get(name), on_measured=self._scales.put
        )
        embedder = build(config, parts)
        if embedder.name not in (name, LocalEmbedder.name):
            raise ConfigError(f"memory.embedder: the embedder must be named {name!r}, not {embedder.name!r}")
        return embedder

    def _build_earlier(self, name: str) -> Embedder | None:
        if name == LocalEmbedder.name:
            return LocalEmbedder()
        parts = EmbedderName.parse(name)
        try:
            if parts is None or EMBEDDER_KINDS.find(parts.kind) is None:
                return None
            changes = {"kind": parts.kind, "model": parts.model, "dimensions": parts.dimensions}
            embedder = self._build(self._config.model_copy(update=changes))
        except (ValueError, ConfigError) as error:
            _log.warning("embedder_unavailable", extra={"embedder": name, "cause": str(error)})
            return None
        return embedder if embedder.name == name else None


def _build_local(config: EmbedderConfig, parts: EmbedderParts) -> Embedder:
    return LocalEmbedder()


def _build_openai(config: EmbedderConfig, parts: EmbedderParts) -> Embedder:
    return OpenAIEmbedder(config, parts.session, parts.scale, parts.on_measured, name=parts.name)


_BUILT_IN: Final[dict[str, BuildEmbedder]] = {"local": _build_local, "openai": _build_openai}
