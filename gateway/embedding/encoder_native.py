"""The encoder's arithmetic in the compiled library: one call for any number of texts.

Its rows of tokens take 7 KiB each, 16 bits a number. When there are no more slots, the tokens that were not used for
longest lose theirs.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.arrays import ModelArrays, TokenIds, UnitVectors
from gateway.native import EncoderModel, Kernels, Matrix

__all__ = ["NativeEncoder"]

_SLOTS = 4096
_ROW = 13 * 256  # numbers of a token's row
_STEP = 32  # numbers that share a step
_DIMENSIONS = 512
_PLAIN = (
    *("first_bias", "second_bias", "project_bias", "project_gain", "project_shift"),
    *("gain", "shift", "pool_bias", "steps", "lows", "table"),
)


class NativeEncoder:
    """The network, with rows of `slots` tokens: 512 at least."""

    def __init__(self, kernels: Kernels, arrays: ModelArrays, slots: int = _SLOTS) -> None:
        self.code = f"native {kernels.path}"
        self._kernels = kernels
        self._lock = threading.Lock()  # the library needs one call at a time
        vocabulary = len(arrays["table"])
        state: dict[str, NDArray[Any]] = {
            "slot_of_token": np.full(vocabulary, -1, np.int32),
            "token_of_slot": np.full(slots, -1, np.int32),
            "marks": np.zeros(slots, np.uint8),
            "rows": np.empty((slots, _ROW), np.int16),
            "row_steps": np.empty((slots, _ROW // _STEP), np.float32),
            "scratch": np.empty(kernels.scratch_size, np.float32),
        }
        self._arrays = {**state, **arrays}  # the structure holds addresses only
        self._model = EncoderModel(
            **{name: array.ctypes.data for name, array in state.items()},
            **{name: arrays[name].ctypes.data for name in _PLAIN},
            eps=float(arrays["eps"][0]),
            vocabulary=vocabulary,
            chunks=len(arrays["steps"]),
            slots=slots,
        )
        for name, kind in EncoderModel.matrices.items():
            if kind is Matrix:
                setattr(self._model, name, self._matrix(name))
                continue
            for index in range(len(getattr(self._model, name))):
                getattr(self._model, name)[index] = self._matrix(f"{name}{index}")

    @property
    def misses(self) -> int:
        """How many rows of tokens have been computed."""
        return int(self._model.misses)

    def encode(self, texts: Sequence[TokenIds], *, quick: bool) -> UnitVectors:
        """Encode tokenised texts, one vector each."""
        vectors = np.empty((len(texts), _DIMENSIONS), np.float32)
        if texts:
            lengths = np.array([len(ids) for ids in texts], np.int32)
            tokens = np.concatenate([np.asarray(ids, np.int32) for ids in texts])
            with self._lock:
                self._kernels.encode(self._model, tokens, lengths, vectors, quick=quick)
        return vectors

    def _matrix(self, name: str) -> Matrix:
        weights = self._arrays[name]
        panels, depth, width = weights.shape
        return Matrix(weights.ctypes.data, self._arrays[f"{name}_scale"][0], depth, panels * width)
