"""The kinds of embedders, as far as a configuration knows them: their names."""

from dataclasses import dataclass
from typing import Final

from gateway.config.registry import KindRegistry

__all__ = ["EMBEDDER_KINDS", "EmbedderRules"]


@dataclass(frozen=True, kw_only=True)
class EmbedderRules:
    """A kind of embedders, by its name in the configuration."""

    name: str


EMBEDDER_KINDS: Final = KindRegistry(
    "memory_gateway.embedders", EmbedderRules, (EmbedderRules(name="local"), EmbedderRules(name="openai"))
)
