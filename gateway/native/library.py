"""Loads the compiled library, and calls its functions with arrays."""

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int32]

__all__ = ["EncoderModel", "Kernels", "Matrix", "TokenizerModel", "kernels", "library_name", "load"]

_VERSION = 1
_QUICK = 2**21  # numbers of a matrix, some 0.1 ms: other threads cannot use that time, and the lock is not given back
_BRANCHES = 3
_LAYERS = 6


def library_name() -> str:
    """The file name of the library on this system."""
    return {"win32": "_kernels.dll", "darwin": "_kernels.dylib"}.get(sys.platform, "_kernels.so")


class Matrix(ctypes.Structure):
    """A matrix of bytes in panels of 32 columns, and what they are multiplied with."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("depth", ctypes.c_int32),
        ("width", ctypes.c_int32),
    )


_MATRICES = (
    ("project", Matrix * _BRANCHES),
    ("positions", Matrix * _BRANCHES),
    ("second", Matrix * _BRANCHES),
    ("pool", Matrix),
    ("dense", Matrix * _LAYERS),
)


class EncoderModel(ctypes.Structure):
    """`encoder` of kernels.c: its weights, and its rows of tokens."""

    matrices: ClassVar[dict[str, type]] = dict(_MATRICES)

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("first_bias", "second_bias", "project_bias", "project_gain", "project_shift"),
                *("gain", "shift", "pool_bias", "steps", "lows", "table"),
                *("slot_of_token", "token_of_slot", "marks", "rows", "row_steps", "scratch"),
            )
        ),
        *_MATRICES,
        ("eps", ctypes.c_float),
        ("vocabulary", ctypes.c_int32),
        ("chunks", ctypes.c_int32),
        ("slots", ctypes.c_int32),
        ("hand", ctypes.c_int32),
        ("misses", ctypes.c_int64),
    )


class TokenizerModel(ctypes.Structure):
    """`tokenizer` of tokenizer.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "children", "pieces", "scores", "units", "replacements")),
        ("nodes", ctypes.c_int32),
        ("piece_count", ctypes.c_int32),
        ("unit_count", ctypes.c_int32),
        ("replacement_size", ctypes.c_int32),
        ("unknown_score", ctypes.c_double),
    )


class _RowsOfBytes(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("dimensions", ctypes.c_int32),
    )


_POINTER, _INT32, _INT64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "kernels_version": (_INT32, ()),
    "kernels_encoder_size": (_INT64, ()),
    "kernels_scratch_size": (_INT64, ()),
    "kernels_path": (ctypes.c_char_p, (_INT32,)),
    "kernels_has_path": (_INT32, (_INT32,)),
    "kernels_dot": (_INT32, (_INT32, _POINTER, ctypes.POINTER(_RowsOfBytes), _POINTER, _INT64, _POINTER)),
    "kernels_encode": (
        _INT32,
        (_INT32, ctypes.POINTER(EncoderModel), _POINTER, _INT64, _POINTER, _INT32, _POINTER),
    ),
    "kernels_tokenize": (_INT64, (ctypes.POINTER(TokenizerModel), ctypes.c_char_p, _INT64, _POINTER, _INT64)),
}


class Kernels:
    """The library's functions on one of its paths. Arrays must be contiguous and of the types named here."""

    def __init__(self, quick: ctypes.PyDLL, long: ctypes.CDLL, path: int) -> None:
        self._quick = quick  # keeps the interpreter's lock
        self._long = long
        self._path = path
        self.path: str = quick.kernels_path(path).decode()
        self.scratch_size: int = quick.kernels_scratch_size()

    def dot(
        self, vector: "Floats", rows: "NDArray[np.int8]", scales: "Floats", chosen: "Ints | None", products: "Floats"
    ) -> None:
        """Write the products of a vector and rows, each times its scale: of the rows `chosen`, else of the first ones.
        Raises IndexError if a row is not there."""
        matrix = _RowsOfBytes(rows.ctypes.data, scales.ctypes.data, len(rows), rows.shape[1])
        if len(vector) != rows.shape[1] or len(scales) < len(rows):
            raise ValueError("vectors of different sizes")
        if chosen is not None and len(chosen) != len(products):
            raise ValueError("another number of products than rows")
        library = self._quick if len(products) * rows.shape[1] < _QUICK else self._long
        result = library.kernels_dot(
            self._path,
            vector.ctypes.data,
            matrix,
            None if chosen is None else chosen.ctypes.data,
            len(products),
            products.ctypes.data,
        )
        if result:
            raise IndexError("a row that is not there")

    def encode(self, model: EncoderModel, tokens: "Ints", lengths: "Ints", vectors: "Floats", *, quick: bool) -> None:
        """Write the vectors of texts. Raises ValueError for a token that is not in the vocabulary, or an empty text."""
        if len(vectors) != len(lengths):
            raise ValueError("another number of vectors than texts")
        result = (self._quick if quick else self._long).kernels_encode(
            self._path,
            model,
            tokens.ctypes.data,
            len(tokens),
            lengths.ctypes.data,
            len(lengths),
            vectors.ctypes.data,
        )
        if result:
            raise ValueError("a token or a length is out of range")

    def tokenize(self, model: TokenizerModel, text: bytes, tokens: "Ints") -> int:
        """Write the tokens of a text in UTF-8, and return how many there are; none is written if they do not fit."""
        count: int = self._quick.kernels_tokenize(model, text, len(text), tokens.ctypes.data, len(tokens))
        if count < 0:
            raise MemoryError
        return count


@functools.cache
def kernels() -> Kernels | None:
    """The library as the environment wants it; None means numpy."""
    choice = os.environ.get("MEMORY_GATEWAY_NATIVE", "")
    return None if choice == "0" else load(choice)


def load(path: str = "") -> Kernels | None:
    """Load the library, for one of its paths or for the best one; None if it cannot be used."""
    file = os.path.join(os.path.dirname(__file__), library_name())
    try:
        quick, long = ctypes.PyDLL(file), ctypes.CDLL(file)
        for library in (quick, long):
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    if quick.kernels_version() != _VERSION or quick.kernels_encoder_size() != ctypes.sizeof(EncoderModel):
        return None
    usable = [number for number in range(len(paths(quick))) if quick.kernels_has_path(number)]
    named = [number for number in usable if paths(quick)[number] == path]
    return Kernels(quick, long, (named or usable)[0])


def paths(library: ctypes.PyDLL) -> Sequence[str]:
    """The names of a library's paths, best first."""
    names: list[str] = []
    while (name := library.kernels_path(len(names))) is not None:
        names.append(name.decode())
    return names
