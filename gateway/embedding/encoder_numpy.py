"""The encoder's arithmetic in numpy, for installations without the compiled library.

The package's own code streams 13 MB of weights from memory for each call, and that, not arithmetic, dominates the cost
of a short text. Here the rows of recently seen tokens are kept, and the linear layers at the end are folded into one.
One thread at a time.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from gateway.embedding.arrays import ModelArrays, TokenIds, TokenNumbers, UnitVectors

__all__ = ["NumpyEncoder"]

_EMBEDDING = 512
_BRANCH = 256
_WINDOWS = ((2, 0), (3, 1), (5, 2))  # tokens of a window, and how many of them lie to the left
_PAD = 2  # empty rows between two texts: no window reaches across
_CONTRIBUTIONS = sum(size for size, _ in _WINDOWS) * _BRANCH
_TOKENS_KEPT = 2048  # 13 KiB each
_GROUP_TOKENS = 384


class NumpyEncoder:
    """The network, with rows of `slots` tokens."""

    code = "numpy"

    def __init__(self, arrays: ModelArrays, slots: int = _TOKENS_KEPT) -> None:
        self._arrays = arrays
        self._eps = float(arrays["eps"][0])
        branches = range(len(_WINDOWS))
        self._project = np.concatenate([_matrix(arrays, f"project{branch}") for branch in branches], axis=1)
        self._positions = [_matrix(arrays, f"positions{branch}") for branch in branches]
        self._second = [_matrix(arrays, f"second{branch}") for branch in branches]
        zeroth, first, *self._layers = (_matrix(arrays, f"dense{layer}") for layer in range(6))
        pool, both = _matrix(arrays, "pool"), np.concatenate([zeroth, first], axis=1)
        heads = pool @ both
        self._heads = np.ascontiguousarray(arrays["gain"][:, None] * heads)
        self._heads_bias = arrays["shift"] @ heads + arrays["pool_bias"] @ both
        self._heads_total = self._heads.sum(axis=0)
        self._rows = np.empty((slots, len(_WINDOWS) * _BRANCH + _CONTRIBUTIONS), np.float32)
        self._slot_of_token = np.full(len(arrays["table"]), -1, np.int32)
        self._token_of_slot = np.full(slots, -1, np.int32)
        self._next_slot = 0

    def encode(self, texts: Sequence[TokenIds], *, quick: bool = False) -> UnitVectors:
        """Encode tokenised texts, one vector each, in groups that fit into the processor's caches."""
        batches: list[UnitVectors] = []
        group: list[TokenIds] = []
        size = 0
        for ids in texts:
            if group and size + len(ids) > _GROUP_TOKENS:
                batches.append(self._encode_group(group))
                group, size = [], 0
            group.append(ids)
            size += len(ids)
        if group:
            batches.append(self._encode_group(group))
        return np.concatenate(batches) if batches else np.empty((0, _EMBEDDING), np.float32)

    def _encode_group(self, group: Sequence[TokenIds]) -> UnitVectors:
        lengths = [len(ids) for ids in group]
        flat = np.fromiter(chain.from_iterable(group), np.intp, sum(lengths))
        starts = np.cumsum([_PAD] + [length + _PAD for length in lengths[:-1]])
        rows: Any = slice(_PAD, _PAD + lengths[0])
        if len(group) > 1:
            rows = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
        features = self._features(flat, rows, int(starts[-1]) + lengths[-1] + _PAD)
        sums = self._sums(features, starts, lengths)
        roots = np.sqrt(np.asarray(lengths, np.float32))[:, None]
        return self._dense(sums / roots + roots * self._heads_bias)

    def _features(self, flat: TokenNumbers, rows: Any, height: int) -> UnitVectors:
        """Compute the embedding and the three branches of each token; the rows between texts are zero."""
        rows_of_tokens = self._lookup_tokens(flat)
        features = np.zeros((height, _EMBEDDING + len(_WINDOWS) * _BRANCH), np.float32)
        features[rows, :_EMBEDDING] = self._embeddings(flat)
        contributions = np.zeros((height, _CONTRIBUTIONS), np.float32)
        contributions[rows] = rows_of_tokens[:, len(_WINDOWS) * _BRANCH :]
        begin = 0
        for branch, (size, before) in enumerate(_WINDOWS):
            projection = rows_of_tokens[:, branch * _BRANCH : (branch + 1) * _BRANCH]
            first = np.zeros((height, _BRANCH), np.float32)
            first[rows] = self._arrays["first_bias"][branch * _BRANCH : (branch + 1) * _BRANCH]
            for position in range(size):
                first[rows] += contributions[_shift_rows(rows, position - before), begin : begin + _BRANCH]
                begin += _BRANCH
            first[rows] = np.maximum(first[rows], 0) + projection
            windows = np.concatenate([first[_shift_rows(rows, position - before)] for position in range(size)], axis=1)
            second = windows @ self._second[branch]
            second += self._arrays["second_bias"][branch * _BRANCH : (branch + 1) * _BRANCH]
            np.maximum(second, 0, out=second)
            second += first[rows]
            column = _EMBEDDING + branch * _BRANCH
            features[rows, column : column + _BRANCH] = second
        return features

    def _sums(self, features: UnitVectors, starts: Any, lengths: Sequence[int]) -> UnitVectors:
        """Sum each text's normalised rows, and apply the first dense layer. Layer normalisation is linear but for its
        two factors, so that it is applied to sums and not to rows."""
        width = features.shape[1]
        means = features.mean(axis=1)
        squares = np.einsum("ij,ij->i", features, features) / width
        factors = 1 / np.sqrt(squares - means * means + self._eps)
        weights = np.zeros((len(lengths), len(features)), np.float32)
        for index, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            weights[index, start : start + length] = factors[start : start + length]
        sums = (weights @ features) @ self._heads
        return np.asarray(sums - (weights @ means)[:, None] * self._heads_total, np.float32)

    def _dense(self, heads: UnitVectors) -> UnitVectors:
        width = heads.shape[1] // 2
        first = np.maximum(heads[:, :width], 0)
        second = np.maximum(heads[:, width:] + first @ self._layers[0], 0)
        third = np.maximum(second @ self._layers[1], 0)
        vectors = np.tanh(second @ self._layers[2] + third @ self._layers[3])
        vectors /= np.sqrt(np.maximum(np.einsum("ij,ij->i", vectors, vectors), self._eps))[:, None]
        return np.asarray(vectors, np.float32)

    def _lookup_tokens(self, flat: TokenNumbers) -> UnitVectors:
        """Rows of tokens: a token's projection, then its contribution to each position of each window. New ones take
        the slots that were filled longest ago."""
        slots = self._slot_of_token[flat]
        rows = self._rows[slots]
        missing = np.unique(flat[slots < 0])
        if not len(missing):
            return rows
        computed = self._compute(missing)
        rows[slots < 0] = computed[np.searchsorted(missing, flat[slots < 0])]
        self._keep(missing[: len(self._rows)], computed)
        return rows

    def _keep(self, tokens: TokenNumbers, rows: UnitVectors) -> None:
        slots = (self._next_slot + np.arange(len(tokens))) % len(self._rows)
        earlier = self._token_of_slot[slots]
        self._slot_of_token[earlier[earlier >= 0]] = -1
        self._slot_of_token[tokens] = slots
        self._token_of_slot[slots] = tokens
        self._rows[slots] = rows[: len(tokens)]
        self._next_slot = int(slots[-1] + 1) % len(self._rows)

    def _compute(self, tokens: TokenNumbers) -> UnitVectors:
        arrays = self._arrays
        projected: UnitVectors = self._embeddings(tokens) @ self._project + arrays["project_bias"]
        projected -= projected.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", projected, projected) / projected.shape[1]
        projected *= (1 / np.sqrt(variance + self._eps))[:, None]
        projected = projected * arrays["project_gain"] + arrays["project_shift"]
        contributions = [
            projected[:, branch * _BRANCH : (branch + 1) * _BRANCH] @ weights
            for branch, weights in enumerate(self._positions)
        ]
        return np.concatenate([projected, *contributions], axis=1)

    def _embeddings(self, tokens: TokenNumbers) -> UnitVectors:
        chunks = tokens % len(self._arrays["steps"])  # the table is quantised in chunks of its own scale
        vectors: UnitVectors = self._arrays["table"][tokens].astype(np.float32)
        vectors *= self._arrays["steps"][chunks, None]
        vectors += self._arrays["lows"][chunks, None]
        return vectors


def _matrix(arrays: ModelArrays, name: str) -> UnitVectors:
    """A matrix in float32, of its panels of whole numbers."""
    panels, depth, width = arrays[name].shape
    whole = arrays[name].transpose(1, 0, 2).reshape(depth, panels * width)
    return np.asarray(whole.astype(np.float32) * arrays[f"{name}_scale"], np.float32)


def _shift_rows(rows: Any, by: int) -> Any:
    return slice(rows.start + by, rows.stop + by) if isinstance(rows, slice) else rows + by
