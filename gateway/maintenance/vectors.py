"""Vectors in the lines of an export: base64 of float32, little-endian, exactly as they are stored. Pure."""

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.storage.rows import LoadedRows, RowFormat
from gateway.storage.values import GivenVector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["encode_vectors", "parse_vector"]

_TOLERANCE = 1e-3  # of a vector's squared length, which is 1


def encode_vectors(loaded: LoadedRows, rows: Sequence[int], row_format: RowFormat) -> list[dict[str, str]]:
    """The fields `embedder` and `embedding` of each row; none for a row without a vector of its format's embedder."""
    vectors = loaded.vectors(row_format.embedder, row_format.dimensions)
    names = loaded.strings("embedder")
    return [
        {"embedder": row_format.embedder, "embedding": _encode(vectors[row])}
        if names[row] == row_format.embedder and vectors[row].any()
        else {}
        for row in rows
    ]


def parse_vector(embedder: Any, embedding: Any, row_format: RowFormat) -> GivenVector | None:
    """The vector of a line; None if it is of another embedder, or damaged: then the text is embedded."""
    import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

    if embedder != row_format.embedder or not isinstance(embedding, str):
        return None
    try:
        content = base64.b64decode(embedding, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    if len(content) != 4 * row_format.dimensions:
        return None
    vector = np.frombuffer(content, "<f4").astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        has_length_1 = abs(float(np.vdot(vector, vector)) - 1) <= _TOLERANCE  # False for not-a-number
    return GivenVector(row_format.embedder, vector) if has_length_1 else None


def _encode(vector: "NDArray[np.float32]") -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
