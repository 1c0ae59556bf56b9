"""Types of the arrays of recall."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "Floats", "Ints", "Pairs"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]
Pairs = NDArray[np.int32]
"""Row numbers, shape (m, 2)."""
