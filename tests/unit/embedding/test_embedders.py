import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from gateway.config import EmbedderConfig
from gateway.embedding.calibration import Calibration, Calibrations
from gateway.embedding.embedders import EmbedFailed, LocalEmbedder, OpenAIEmbedder
from gateway.storage.local_file import LocalFile
from tests.fakes.upstream import FakeUpstream, says


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def test_the_embedded_default_knows_meaning_in_two_languages() -> None:
    embedder = LocalEmbedder()
    with pytest.raises(EmbedFailed, match="loading"):
        await embedder.embed_query("x")
    await embedder.start()
    texts = ["My cat is called Miso", "我的猫叫味噌", "The invoice is overdue"]
    vectors = await embedder.embed_documents(texts)
    query = await embedder.embed_query("the name of the pet")
    assert vectors.shape == (3, embedder.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors @ query).argmin() == 2
    assert (await embedder.embed_documents([])).shape == (0, embedder.dimensions)
    assert await embedder.embed_query("the name of the pet") is query
    await embedder.stop()


def answering(upstream: FakeUpstream, as_base64: bool = True) -> Any:
    async def script(request: Any) -> Any:
        inputs = upstream.last.json["input"]
        data = []
        for index, text in enumerate(inputs):
            vector = np.asarray([len(text), 1, 0], "<f4")
            value = base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
            data.append({"index": index, "embedding": value})
        return await says(200, {"data": data[::-1]})(request)

    return script


@pytest.mark.parametrize("as_base64", [True, False])
async def test_an_openai_embedder_batches_and_normalises(
    upstream: FakeUpstream, session: aiohttp.ClientSession, as_base64: bool
) -> None:
    upstream.script = answering(upstream, as_base64)
    config = EmbedderConfig(kind="openai", base_url=upstream.url, api_key="sk-e", dimensions=3, batch_size=2)
    embedder = OpenAIEmbedder(config, session, name="openai:m:3")
    vectors = await embedder.embed_documents(["a", "bbb", "cc"])
    assert [len(request.json["input"]) for request in upstream.received][:2] == [2, 1]
    assert all(len(request.json["input"]) <= 2 for request in upstream.received)
    assert upstream.last.headers["authorization"] == "Bearer sk-e"
    assert np.allclose(vectors[1], np.asarray([3, 1, 0]) / np.sqrt(10))


@pytest.mark.parametrize(
    "script",
    [
        says(500, b"no"),
        says(200, b"garbage"),
        says(200, {"data": []}),
        says(200, {"data": [{"index": 0, "embedding": [1, 2]}]}),
        says(200, {"data": [{"index": 0, "embedding": [0, 0, 0]}]}),
        says(200, {"data": [{"index": 0, "embedding": ["a", "b", "c"]}]}),
        says(302, b"", location="http://127.0.0.1:1/"),
    ],
)
async def test_a_bad_answer_is_a_failure_and_three_make_it_rest(
    upstream: FakeUpstream, session: aiohttp.ClientSession, script: Any
) -> None:
    upstream.script = script
    config = EmbedderConfig(kind="openai", base_url=upstream.url, dimensions=3)
    embedder = OpenAIEmbedder(config, session, name="openai:m:3")
    for _ in range(5):
        with pytest.raises(EmbedFailed):
            await embedder.embed_query("x")
    assert len(upstream.received) == 3


async def test_an_openai_embedder_learns_its_scale_beside_the_first_documents(
    upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    local = LocalEmbedder()
    await local.start()

    async def narrow(request: Any) -> Any:
        """Vectors of the embedded model, on another scale: all lie close together, as those of some models do."""
        vectors = await local.embed_documents(upstream.last.json["input"])
        shifted = np.concatenate([vectors * 0.3, np.ones((len(vectors), 1), np.float32)], axis=1)
        data = [{"index": index, "embedding": vector.tolist()} for index, vector in enumerate(shifted)]
        return await says(200, {"data": data})(request)

    upstream.script = narrow
    config = EmbedderConfig(kind="openai", base_url=upstream.url, dimensions=513)
    measured: dict[str, Calibration] = {}
    embedder = OpenAIEmbedder(config, session, None, measured.__setitem__, name="openai:m:513")
    before = embedder.scale
    await embedder.embed_query("a query learns nothing: it is waited for")
    assert embedder.scale is before
    await embedder.embed_documents(["the first document"])
    assert embedder.scale.unrelated == pytest.approx(0.92, abs=0.02)
    assert embedder.scale.unrelated < embedder.scale.related
    assert measured == {embedder.name: embedder.scale}
    asked = len(upstream.received)
    await embedder.embed_documents(["another one"])
    assert len(upstream.received) == asked + 1
    await local.stop()


def test_scales_that_cannot_be_read_are_measured_again(tmp_path: Path) -> None:
    (tmp_path / "scales.json").write_text("[1]")
    file = LocalFile(tmp_path / "scales.json")
    scales = Calibrations(file.read, file.write)
    scales.read()
    assert scales.get("x") is None


class _Encoder:
    """Counts what is encoded at once, and otherwise; a token is a character."""

    code = "native test"

    def __init__(self, is_fast: bool) -> None:
        self.is_fast = is_fast
        self.at_once: list[int] = []
        self.batches: list[list[str]] = []

    def tokens(self, texts: list[str]) -> list[list[int]]:
        return [list(map(ord, text)) for text in texts]

    def encode_tokens(self, texts: list[list[int]], *, quick: bool) -> Any:
        assert quick
        self.at_once += [len(ids) for ids in texts]
        return np.ones((len(texts), 512), np.float32)

    def encode(self, texts: list[str]) -> Any:
        self.batches.append(texts)
        return np.ones((len(texts), 512), np.float32)


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_short_text_is_encoded_at_once_where_that_is_fast(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = _Encoder(is_fast)
    monkeypatch.setattr("gateway.embedding.embedders.load_local", lambda: encoder)
    embedder = LocalEmbedder()
    before = embedder.code
    await embedder.start()
    assert (before, embedder.code) == (None, "native test")
    await embedder.embed_query("a short one")
    await embedder.embed_documents(["another"])
    assert encoder.at_once == ([11, 7] if is_fast else [])
    encoder.batches.clear()
    await embedder.embed_query("q" * 41)
    await embedder.embed_documents(["one", "of two"])
    await embedder.embed_documents(["d" * 400 + str(index) for index in range(6)])
    assert len(encoder.at_once) == (2 if is_fast else 0)
    assert [len(batch) for batch in encoder.batches] == [1, 2, *([2, 2, 2] if is_fast else [1] * 6)]
    waiting = asyncio.ensure_future(embedder.embed_documents(["x" * 300]))
    await asyncio.sleep(0)
    await embedder.embed_query("while that waits")
    assert len(encoder.at_once) == (2 if is_fast else 0)
    await waiting
    await embedder.stop()


async def test_a_model_that_cannot_be_loaded_is_a_failure_and_loads_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("another model")

    embedder = LocalEmbedder()
    with monkeypatch.context() as patch:
        patch.setattr("gateway.embedding.embedders.load_local", fail)
        with pytest.raises(EmbedFailed, match="another model"):
            await embedder.start()
    before = embedder.code
    await embedder.start()
    assert before is None
    assert embedder.code is not None
    await embedder.stop()
