import numpy as np
from numpy.typing import NDArray

from gateway.recall.vectors import RowVectors


def unit(count: int, dimensions: int = 512) -> NDArray[np.float32]:
    made = np.random.default_rng(3).standard_normal((count, dimensions)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def test_products_are_those_of_the_vectors_to_a_thousandth() -> None:
    rows = unit(700)
    held = RowVectors(512)
    held.reserve(700)
    held.put(0, rows[:300])
    held.put(300, rows[300:])
    found = held.dot(rows[5], 700)
    assert np.abs(found - rows @ rows[5]).max() < 0.002
    assert found.argmax() == 5


def test_rows_that_were_never_set_are_zero_and_room_keeps_what_is_there() -> None:
    rows = unit(3)
    held = RowVectors(512)
    held.put(1, rows[1:2])
    held.reserve(1000)
    found = held.dot(rows[1], 1000)
    assert found[1] > 0.99
    assert not found[0]
    assert not found[2:].any()


def test_a_row_of_zeros_stays_one() -> None:
    held = RowVectors(512)
    held.put(0, np.zeros((1, 512), np.float32))
    assert held.dot(unit(1)[0], 1)[0] == 0


def test_a_thousand_rows_take_a_quarter_of_their_float32_size() -> None:
    held = RowVectors(512)
    held.reserve(10_000)
    assert held.nbytes < 10_000 * 512 * 4 / 3


def test_products_of_some_rows_are_those_of_all_rows() -> None:
    vectors = RowVectors(512)
    rows = unit(700)
    vectors.reserve(700)
    vectors.put(0, rows)
    products = vectors.dot(rows[5], 700)
    chosen = np.array([699, 5, 0, 5, *range(100, 400)], np.int32)
    assert np.allclose(vectors.dot_rows(rows[5], chosen), products[chosen], atol=1e-6)
    assert vectors.dot_rows(rows[5], np.empty(0, np.int32)).shape == (0,)


class _Watched(RowVectors):
    """Is read each time one of its arrays is replaced, as by another thread."""

    def __setattr__(self, name: str, value: NDArray[np.float32]) -> None:
        super().__setattr__(name, value)
        if "_scales" in vars(self):
            self.dot(np.ones(8, np.float32), 10)
            self.dot_rows(np.ones(8, np.float32), np.arange(10, dtype=np.int32))


def test_it_can_be_read_while_it_grows() -> None:
    vectors = _Watched(8)
    vectors.reserve(1000)
    assert vectors.nbytes == 1000 * 12
