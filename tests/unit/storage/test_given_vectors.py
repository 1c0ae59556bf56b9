from dataclasses import replace

import numpy as np

from gateway.storage.given_vectors import GivenVectors
from gateway.storage.rows import RowFormat
from gateway.storage.values import GivenVector
from tests.fakes.made import record

ONE, TWO = record("one", 1), record("two", 2)
VECTOR = np.asarray([1, 0, 0, 0], np.float32)


def format_of(scope: str) -> RowFormat:
    return RowFormat("e", 4, 3)


def test_a_vector_is_found_until_its_record_is_stored() -> None:
    vectors = GivenVectors()
    vectors.put([ONE, TWO], {ONE.id: GivenVector("e", VECTOR)})
    assert vectors.find([ONE, TWO], format_of) == {ONE.id: ("e", VECTOR)}
    vectors.drop([ONE])
    assert vectors.find([ONE], format_of) == {}
    assert not len(vectors)


def test_a_changed_text_or_another_embedder_has_none() -> None:
    vectors = GivenVectors()
    vectors.put([ONE, TWO], {ONE.id: GivenVector("e", VECTOR), TWO.id: GivenVector("other", VECTOR)})
    changed = replace(ONE, text="changed", version=2)
    assert vectors.find([changed, TWO], format_of) == {}
    assert vectors.find([ONE, changed], format_of) == {}, "one of the two must be embedded"
