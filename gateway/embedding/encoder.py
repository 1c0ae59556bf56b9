"""Sentence embeddings with the bundled model, faster than its own package.

The model is Google's Universal Sentence Encoder multilingual v3: token embeddings, three branches of two convolutions,
a sum over the tokens, a few dense layers. The terms that depend on one token alone (projection, normalisation, and the
token's contribution to each window of the first convolution) are kept for recently seen tokens. The compiled library
computes the rest in one call, or numpy in about sixty; the vectors are the same to rounding.
"""

from collections.abc import Sequence
from typing import Protocol

from gateway.embedding.arrays import TokenIds, UnitVectors
from gateway.embedding.encoder_native import NativeEncoder
from gateway.embedding.encoder_numpy import NumpyEncoder
from gateway.embedding.model_file import load_model
from gateway.embedding.tokenizer import NativeTokenizer, PackageTokenizer
from gateway.native import Kernels, kernels

__all__ = ["SentenceEncoder"]


class _Arithmetic(Protocol):
    code: str

    def encode(self, texts: Sequence[TokenIds], *, quick: bool) -> UnitVectors: ...


class SentenceEncoder:
    """The model with its rows of tokens. `encode` returns float32, shape (texts, 512), rows of length 1. `code` names
    what computes: `native` and the instructions that it uses, or `numpy`."""

    def __init__(self, library: Kernels | None = None) -> None:
        """Load the model: some milliseconds, or a few seconds the first time."""
        arrays = load_model()
        library = library or kernels()
        self._tokenizer = NativeTokenizer(library, arrays) if library else PackageTokenizer()
        self._arithmetic: _Arithmetic = NativeEncoder(library, arrays) if library else NumpyEncoder(arrays)
        self.code = self._arithmetic.code

    @property
    def is_fast(self) -> bool:
        """True if a short text takes some tenths of a millisecond."""
        return self.code not in (NumpyEncoder.code, "native generic")

    def tokens(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text, with their begin and end marks: the input of `encode_tokens`."""
        return [self._tokenizer.encode(text) for text in texts]

    def encode(self, texts: Sequence[str]) -> UnitVectors:
        """Encode texts, one vector each."""
        return self.encode_tokens(self.tokens(texts))

    def encode_tokens(self, texts: Sequence[TokenIds], *, quick: bool = False) -> UnitVectors:
        """Encode tokenised texts, one vector each. `quick`: keep the interpreter's lock, for what takes less time than
        to get it back."""
        return self._arithmetic.encode(texts, quick=quick)
