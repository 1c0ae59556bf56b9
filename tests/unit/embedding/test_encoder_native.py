import random
from collections.abc import Sequence

import numpy as np
import pytest

from gateway.embedding.arrays import TokenIds
from gateway.embedding.encoder_native import NativeEncoder
from gateway.embedding.encoder_numpy import NumpyEncoder
from gateway.embedding.model_file import load_model
from gateway.native import Kernels
from tests.fakes.native import PATHS

pytestmark = pytest.mark.skipif(not PATHS, reason="there is no compiled library")

_MODEL = load_model()
_NUMPY = NumpyEncoder(_MODEL)
_VOCABULARY = len(_MODEL["table"])
each_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.path)


def texts(*lengths: int, seed: int = 1, distinct: int = 300) -> list[TokenIds]:
    """Texts of random tokens, with few distinct ones, as in a language."""
    source = random.Random(seed)
    words = [source.randrange(3, _VOCABULARY) for _ in range(distinct)]
    return [[source.choice(words) for _ in range(length)] for length in lengths]


def check(encoder: NativeEncoder, batch: Sequence[TokenIds]) -> None:
    vectors, expected = encoder.encode(batch, quick=False), _NUMPY.encode(batch)
    assert vectors.shape == expected.shape
    assert ((vectors * expected).sum(axis=1) > 0.999999).all()
    assert np.abs(vectors - expected).max(initial=0) < 1e-4


@each_path
def test_vectors_are_those_of_numpy(path: Kernels) -> None:
    encoder = NativeEncoder(path, _MODEL)
    check(encoder, [])
    for length in (*range(1, 30), 187, 188, 189, 200, 376, 377, 400):
        check(encoder, texts(length, seed=length))
    check(encoder, texts(1, 2, 3, 180, 5, 181, 1, 1, 600, 4))
    check(encoder, texts(*[3] * 150))


@each_path
def test_a_text_of_4000_tokens_that_are_all_different(path: Kernels) -> None:
    encoder = NativeEncoder(path, _MODEL, slots=512)
    check(encoder, [list(range(3, 4003))])
    assert encoder.misses >= 4000


@each_path
def test_tokens_that_lost_their_rows_are_computed_again(path: Kernels) -> None:
    encoder = NativeEncoder(path, _MODEL, slots=512)
    for seed in range(6):
        check(encoder, texts(40, 700, 12, seed=seed, distinct=2000))
    before = encoder.misses
    again = texts(40, seed=1, distinct=20)
    check(encoder, again)
    assert encoder.misses > before
    before = encoder.misses
    check(encoder, again)
    assert encoder.misses == before  # used last, so still there


@each_path
def test_tokens_out_of_range_and_empty_texts_are_refused(path: Kernels) -> None:
    encoder = NativeEncoder(path, _MODEL)
    for wrong in ([[_VOCABULARY]], [[1], [-1]], [[1], []]):
        with pytest.raises(ValueError, match="range"):
            encoder.encode(wrong, quick=True)
    check(encoder, texts(5))


def test_too_few_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        NativeEncoder(PATHS[0], _MODEL, slots=100).encode([[1, 2]], quick=True)
