"""Types of the encoder's arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ModelArrays", "TokenIds", "TokenNumbers", "UnitVectors"]

ModelArrays = Mapping[str, NDArray[Any]]
"""The model's arrays by name."""
TokenIds = Sequence[int] | NDArray[np.int32]
"""A tokenised text."""
TokenNumbers = NDArray[np.intp]
UnitVectors = NDArray[np.float32]
"""Shape (texts, dimensions)."""
