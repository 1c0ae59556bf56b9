"""Vectors of one working set, quantised to a byte for each number and a scale for each row.

The cost of a product of this size is reading the matrix: at a quarter of the bytes it takes no longer than in float32
(with numpy; a third of that with the compiled library), and a set takes less than half the space. A cosine is off by
0.0003 on average. One thread at a time changes it, and others may read it meanwhile.
"""

import numpy as np
from numpy.typing import NDArray

from gateway.native import kernels
from gateway.recall.arrays import Floats

__all__ = ["RowVectors"]


_FIRST_CAPACITY = 64
_GROWTH = 4  # a quarter more each time
_INT8_MAX = 127  # of an int8
_BLOCK_ROWS = 128  # rows that fit a processor's nearer cache as float32


class RowVectors:
    """A growing matrix of vectors. Rows are numbered from 0; one that was never set is all zeros."""

    def __init__(self, dimensions: int) -> None:
        self._rows = np.zeros((_FIRST_CAPACITY, dimensions), np.int8)
        self._scales = np.zeros(_FIRST_CAPACITY, np.float32)

    @property
    def dimensions(self) -> int:
        return self._rows.shape[1]

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._scales.nbytes

    def reserve(self, count: int) -> None:
        """Make room for this many rows."""
        capacity = len(self._rows)
        if count > capacity:
            more = max(count, capacity + capacity // _GROWTH) - capacity
            # the scales first: a reader that has the longer rows must not get the shorter scales
            self._scales = np.concatenate([self._scales, np.zeros(more, np.float32)])
            self._rows = np.concatenate([self._rows, np.zeros((more, self.dimensions), np.int8)])

    def put(self, first: int, vectors: Floats) -> None:
        """Vectors of the rows from `first` on, shape (rows, dimensions); there must be room for them."""
        for begin in range(0, len(vectors), _BLOCK_ROWS):
            part = vectors[begin : begin + _BLOCK_ROWS]
            scales = np.abs(part).max(axis=1) / _INT8_MAX
            where = slice(first + begin, first + begin + len(part))
            self._rows[where] = np.rint(part / np.maximum(scales, np.finfo(np.float32).tiny)[:, None])
            self._scales[where] = scales

    def take(self, rows: NDArray[np.int32]) -> Floats:
        """The vectors of some rows, shape (rows, dimensions)."""
        return np.asarray(self._rows[rows] * self._scales[rows, None], np.float32)

    def dot(self, vector: Floats, count: int) -> Floats:
        """The products of the first `count` rows with a vector."""
        products = np.empty(count, np.float32)
        library = kernels()
        if library is not None:
            vector = np.ascontiguousarray(vector, np.float32)
            library.dot(vector, self._rows, self._scales, None, products)
            return products
        floats = np.empty((min(count, _BLOCK_ROWS), self.dimensions), np.float32)
        for begin in range(0, count, _BLOCK_ROWS):
            end = min(begin + _BLOCK_ROWS, count)
            block = floats[: end - begin]
            np.copyto(block, self._rows[begin:end])
            np.matmul(block, vector, out=products[begin:end])
        products *= self._scales[:count]
        return products

    def dot_rows(self, vector: Floats, rows: NDArray[np.int32]) -> Floats:
        """The products of some rows with a vector, in the order of `rows`."""
        products = np.empty(len(rows), np.float32)
        library = kernels()
        if library is not None:
            vector, rows = np.ascontiguousarray(vector, np.float32), np.ascontiguousarray(rows, np.int32)
            library.dot(vector, self._rows, self._scales, rows, products)
            return products
        for begin in range(0, len(rows), _BLOCK_ROWS):
            part = rows[begin : begin + _BLOCK_ROWS]
            np.matmul(self._rows[part].astype(np.float32), vector, out=products[begin : begin + len(part)])
        products *= self._scales[rows]
        return products
