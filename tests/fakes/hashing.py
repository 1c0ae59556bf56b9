"""A made-up kind of embedders: words are hashed into a vector, so that texts with common words are near."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.config import EmbedderConfig
from gateway.embedding.calibration import Calibration
from gateway.embedding.embedders import Embedder
from gateway.embedding.kinds import EmbedderKind, EmbedderParts


class HashingEmbedder:
    """Vectors of hashed words."""

    scale = Calibration(unrelated=0.0, related=0.5)

    def __init__(self, config: EmbedderConfig, parts: EmbedderParts) -> None:
        self.name = parts.name
        self.dimensions = config.dimensions

    async def start(self) -> None:
        """Do nothing: there is no model."""

    async def stop(self) -> None:
        """Do nothing."""

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        vector = np.full(self.dimensions, 1e-3, np.float32)
        for word in text.lower().split():
            vector[zlib.crc32(word.encode()) % self.dimensions] += 1
        normalised: NDArray[np.float32] = vector / np.linalg.norm(vector)
        return normalised

    async def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = [await self.embed_query(text) for text in texts]
        return np.stack(vectors) if vectors else np.empty((0, self.dimensions), np.float32)


def build(config: EmbedderConfig, parts: EmbedderParts) -> Embedder:
    return HashingEmbedder(config, parts)


HASHING = EmbedderKind(name="hashing", build=build)
