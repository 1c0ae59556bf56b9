import ctypes
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.native import Kernels, kernels, library, load
from gateway.recall import vectors as module
from gateway.recall.vectors import RowVectors
from tests.fakes.native import PATHS


def matrix(count: int, dimensions: int = 512) -> NDArray[np.float32]:
    rows = np.random.default_rng(7).standard_normal((count, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def filled(rows: NDArray[np.float32]) -> RowVectors:
    vectors = RowVectors(rows.shape[1])
    vectors.reserve(len(rows))
    vectors.put(0, rows)
    return vectors


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    """Products of 703 rows with one of them, by numpy."""
    monkeypatch.setattr(module, "kernels", lambda: None)
    rows = matrix(703)
    return filled(rows).dot(rows[5], 703)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.path)
def test_products_are_those_of_numpy(
    path: Kernels, reference: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "kernels", lambda: path)
    rows = matrix(703)
    vectors = filled(rows)
    chosen = np.array([702, 5, 0, 5, *range(100, 300)], np.int32)
    for count in (703, 702, 3, 1, 0):
        assert np.abs(vectors.dot(rows[5], count) - reference[:count]).max(initial=0) < 1e-6
    for some in (chosen, chosen[:1], chosen[:0]):
        assert np.abs(vectors.dot_rows(rows[5], some) - reference[some]).max(initial=0) < 1e-6


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.path)
@pytest.mark.parametrize("dimensions", [1, 3, 17, 100, 1025])
def test_vectors_of_any_size_are_multiplied(path: Kernels, dimensions: int) -> None:
    rows = np.random.default_rng(1).integers(-127, 128, (9, dimensions)).astype(np.int8)
    vector = np.random.default_rng(2).standard_normal(dimensions).astype(np.float32)
    scales = np.arange(9, dtype=np.float32)
    products = np.empty(9, np.float32)
    path.dot(vector, rows, scales, None, products)
    assert np.allclose(products, rows.astype(np.float32) @ vector * scales, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.path)
def test_rows_that_are_not_there_are_refused(path: Kernels) -> None:
    rows, scales = np.zeros((4, 8), np.int8), np.zeros(4, np.float32)
    vector, products = np.zeros(8, np.float32), np.empty(5, np.float32)
    with pytest.raises(IndexError):
        path.dot(vector, rows, scales, None, products)
    for row in (-1, 4, 2**31 - 1):
        with pytest.raises(IndexError):
            path.dot(vector, rows, scales, np.array([0, row], np.int32), products[:2])
    with pytest.raises(ValueError, match="sizes"):
        path.dot(vector[:7], rows, scales, None, products[:4])
    with pytest.raises(ValueError, match="products"):
        path.dot(vector, rows, scales, np.array([0], np.int32), products[:2])


@pytest.mark.skipif(not PATHS, reason="there is no compiled library")
def test_two_threads_multiply_at_once() -> None:
    rows = matrix(6000)
    vectors = filled(rows)
    expected = [vectors.dot(rows[row], 6000) for row in (1, 2)]
    results: list[list[NDArray[np.float32]]] = [[], []]

    def multiply(index: int) -> None:
        results[index] = [vectors.dot(rows[index + 1], 6000) for _ in range(30)]

    threads = [threading.Thread(target=multiply, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        assert all(np.array_equal(product, expected[index]) for product in results[index])


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_GATEWAY_NATIVE", "0")
    kernels.cache_clear()
    assert kernels() is None
    monkeypatch.setenv("MEMORY_GATEWAY_NATIVE", "generic")
    kernels.cache_clear()
    chosen = kernels()
    assert (chosen and chosen.path) == ("generic" if PATHS else None)
    kernels.cache_clear()


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_a_library_that_cannot_be_loaded_is_none(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    if content is not None:
        (tmp_path / library.library_name()).write_bytes(content)
    assert load() is None


def test_a_library_of_another_version_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_VERSION", 10**6)
    assert load() is None


@pytest.mark.skipif(not PATHS, reason="there is no compiled library")
def test_a_model_that_is_not_whole_is_refused() -> None:
    tokens, vectors = np.array([1], np.int32), np.empty((1, 512), np.float32)
    with pytest.raises(ValueError, match="range"):
        PATHS[0].encode(library.EncoderModel(), tokens, tokens, vectors, quick=True)
    with pytest.raises(ValueError, match="vectors"):
        PATHS[0].encode(library.EncoderModel(), tokens, tokens, vectors[:0], quick=True)
    assert ctypes.sizeof(library.EncoderModel) % 8 == 0
