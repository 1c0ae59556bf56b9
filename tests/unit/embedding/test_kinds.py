import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.config import EmbedderConfig
from gateway.config.embedder_kinds import EMBEDDER_KINDS, EmbedderRules
from gateway.embedding.calibration import Calibration, Calibrations
from gateway.embedding.embedders import LocalEmbedder
from gateway.embedding.kinds import EmbedderKind, EmbedderName, Embedders, register
from gateway.errors import ConfigError
from gateway.storage.local_file import LocalFile
from tests.fakes.hashing import HASHING


def scales_in(folder: Path) -> Calibrations:
    file = LocalFile(folder / "scales.json")
    return Calibrations(file.read, file.write)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client_session:
        yield client_session


@pytest.fixture
def hashing() -> Iterator[None]:
    register(HASHING)
    yield
    EMBEDDER_KINDS.unregister("hashing")


@pytest.mark.parametrize("name", ["openai:m:3", "openai:library/m:latest:1024"])
def test_a_name_is_read_as_it_is_written(name: str) -> None:
    assert str(EmbedderName.parse(name)) == name


@pytest.mark.parametrize("name", ["", "use-multilingual-v3", "openai:m", "openai:m:x", "openai::3"])
def test_a_name_of_another_form_has_no_parts(name: str) -> None:
    assert EmbedderName.parse(name) is None


@pytest.mark.usefixtures("hashing")
async def test_a_registered_kind_is_built_now_and_by_its_name_later(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    scales = scales_in(tmp_path)
    config = EmbedderConfig(kind="hashing", model="words", dimensions=64)
    assert Embedders(config, session, scales).current.name == "hashing:words:64"
    earlier = Embedders(EmbedderConfig(), session, scales).named("hashing:words:32")
    assert earlier is not None
    assert (earlier.name, earlier.dimensions) == ("hashing:words:32", 32)
    assert (await earlier.embed_documents(["a", "b"])).shape == (2, 32)


async def test_an_embedder_must_have_the_name_of_its_vectors(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    def build(config: EmbedderConfig, parts: object) -> LocalEmbedder:
        embedder = LocalEmbedder()
        embedder.name = "mine"
        return embedder

    register(EmbedderKind(name="odd", build=build))
    EMBEDDER_KINDS.register(EmbedderRules(name="half"))
    try:
        scales = scales_in(tmp_path)
        with pytest.raises(ConfigError, match="must be named 'odd:m:3', not 'mine'"):
            Embedders(EmbedderConfig(kind="odd", model="m", dimensions=3), session, scales)
        with pytest.raises(ConfigError, match="'half' is no EmbedderKind"):
            Embedders(EmbedderConfig(kind="half"), session, scales)
        assert Embedders(EmbedderConfig(), session, scales).named("odd:m:3") is None
    finally:
        for name in ("odd", "half"):
            EMBEDDER_KINDS.unregister(name)


async def test_earlier_embedders_are_had_by_their_name(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    scales, again = scales_in(tmp_path), scales_in(tmp_path)
    await asyncio.to_thread(scales.put, "openai:old/model:3", Calibration(0.7, 0.9))
    await asyncio.to_thread(again.read)
    config = EmbedderConfig(kind="openai", model="new", dimensions=8)
    embedders = Embedders(config, session, again)
    assert embedders.named("openai:new:8") is embedders.current
    old = embedders.named("openai:old/model:3")
    assert old is not None
    assert (old.name, old.dimensions, old.scale) == ("openai:old/model:3", 3, Calibration(0.7, 0.9))
    local = embedders.named(LocalEmbedder.name)
    assert isinstance(local, LocalEmbedder)
    for name in ("openai:x:y", "local:x:3", "gone:x:3", "someone's"):
        assert await asyncio.to_thread(embedders.named, name) is None
    await embedders.stop()
