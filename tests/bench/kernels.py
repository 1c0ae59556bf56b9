"""Times of the embedder and of cosines, with numpy and on each path of the compiled library: a table.

The least of some rounds, in milliseconds of the thread's processor time, and its ratio to numpy.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from gateway.embedding.arrays import ModelArrays
from gateway.embedding.encoder_native import NativeEncoder
from gateway.embedding.encoder_numpy import NumpyEncoder
from gateway.embedding.model_file import load_model
from gateway.embedding.tokenizer import NativeTokenizer, PackageTokenizer
from gateway.native import Kernels
from gateway.recall import vectors
from gateway.recall.vectors import RowVectors
from tests.fakes.native import PATHS

_ROUNDS = 3
_CORPUS = Path(__file__).parents[1] / "eval" / "english.json"


def main() -> None:
    libraries: list[Kernels | None] = [None, *PATHS]
    print(f"{'':24}" + "".join(f"{library.path if library else 'numpy':>18}" for library in libraries))
    arrays, texts = load_model(), corpus()
    for name, size, count in (("question, 50 characters", 50, 200), ("120 characters", 120, 200), ("1000", 1000, 60)):
        parts = [texts[begin : begin + size] for begin in range(0, min(len(texts), size * count), size)]
        show(name, [measure(encoder(library, arrays), parts) for library in libraries])
    for count in (2_000, 20_000, 200_000):
        rows = filled(count)
        vector = rows.take(np.array([1], np.int32))[0]
        show(f"cosines of {count} rows", [time_dot(library, rows, vector, count) for library in libraries])


def corpus() -> str:
    """The texts of the evaluation's corpus, one after the other."""
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str) and len(value) > 30:
            texts.append(value)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(part)

    collect(json.loads(_CORPUS.read_text(encoding="utf-8")))
    return " ".join(texts)


def encoder(library: Kernels | None, arrays: ModelArrays) -> Callable[[str], Any]:
    tokenizer = NativeTokenizer(library, arrays) if library else PackageTokenizer()
    network = NativeEncoder(library, arrays) if library else NumpyEncoder(arrays)
    return lambda text: network.encode([tokenizer.encode(text)], quick=False)


def filled(count: int) -> RowVectors:
    source, rows = np.random.default_rng(1), RowVectors(512)
    rows.reserve(count)
    for begin in range(0, count, 2_000):
        part = source.standard_normal((2_000, 512)).astype(np.float32)
        rows.put(begin, part / np.linalg.norm(part, axis=1, keepdims=True))
    return rows


def time_dot(library: Kernels | None, rows: RowVectors, vector: Any, count: int) -> float:
    with mock.patch.object(vectors, "kernels", return_value=library):
        return measure(lambda _text: rows.dot(vector, count), [""] * max(3, 100_000 // count))


def measure(work: Callable[[str], Any], items: Sequence[str]) -> float:
    """The milliseconds of an item."""
    times = []
    for _ in range(_ROUNDS):
        begin = time.thread_time()
        for item in items:
            work(item)
        times.append((time.thread_time() - begin) / len(items) * 1000)
    return min(times)


def show(name: str, times: Sequence[float]) -> None:
    print(f"{name:24}" + "".join(f"{spent:10.3f} ({spent / times[0]:4.2f})" for spent in times))


if __name__ == "__main__":
    main()
