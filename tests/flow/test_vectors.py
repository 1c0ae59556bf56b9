"""Vectors go along with an export and an import, and are used where the embedder is the same and the text unchanged."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.embedding.embedders import LocalEmbedder
from gateway.remember.remember import Remember
from gateway.storage.sqlite.journal import Journal
from gateway.turn import Record, Turn
from tests.fakes.faults import refuse_texts_with
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream
from tests.flow.test_keeping import gateway_command, lines, take_in, tell


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were embedded as documents."""
    texts: list[str] = []
    embed = LocalEmbedder.embed_documents

    async def note(self: LocalEmbedder, documents: Sequence[str]) -> Any:
        texts.extend(documents)
        return await embed(self, documents)

    monkeypatch.setattr(LocalEmbedder, "embed_documents", note)
    return texts


async def told(folder: Path, upstream: FakeUpstream) -> list[dict[str, Any]]:
    """An export with vectors, of a gateway of its own."""
    folder.mkdir()
    async with running_gateway(configuration(folder, upstream.url)) as gateway:
        await tell(gateway, "ada")
        assert all("embedding" not in line for line in await lines(gateway))
        return await lines(gateway, "?vectors=true")


async def recalls_miso(gateway: Running) -> bool:
    found = await gateway.get("/v1/memory/search?query=Which%20pet%20do%20I%20have%3F&user=ada")
    return "Miso" in found.json["data"][0]["text"]


async def test_vectors_come_back_as_they_were_and_nothing_is_embedded(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str]
) -> None:
    exported = await told(tmp_path / "one", upstream)
    assert {line["embedder"] for line in exported} == {LocalEmbedder.name}
    assert {len(base64.b64decode(line["embedding"])) for line in exported} == {4 * LocalEmbedder.dimensions}
    embedded.clear()
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        assert (await take_in(gateway, exported)).json == {"imported": len(exported), "unchanged": 0}
        assert embedded == []
        again = await lines(gateway, "?vectors=1")
        assert sorted(again, key=lambda line: str(line["id"])) == sorted(exported, key=lambda line: str(line["id"]))
        assert await recalls_miso(gateway)
        assert (await gateway.get("/v1/memory/export?vectors=perhaps")).status == 400


async def test_a_vector_of_another_embedder_or_a_damaged_one_is_made_from_the_text(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str]
) -> None:
    exported = await told(tmp_path / "one", upstream)
    embedded.clear()
    damaged = [dict(line) for line in exported]
    damaged[0]["embedder"] = "openai:other:512"
    damaged[1]["embedding"] = damaged[1]["embedding"][:100]
    damaged[2]["embedding"] = base64.b64encode(np.full(512, np.nan, np.float32).tobytes()).decode()
    damaged[3]["embedding"] = {"not": "text"}
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        assert (await take_in(gateway, damaged)).json["imported"] == len(damaged)
        assert sorted(embedded) == sorted(line["text"] for line in damaged[:4])
        for line in await lines(gateway, "?vectors=true"):
            (original,) = (one for one in exported if one["id"] == line["id"])
            again, before = (np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in (line, original))
            assert np.allclose(again, before, atol=1e-5)


async def test_a_text_that_was_changed_since_is_embedded(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str]
) -> None:
    exported = await told(tmp_path / "one", upstream)
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        await take_in(gateway, exported)
        embedded.clear()
        newer = {**exported[0], "version": 2}
        assert (await take_in(gateway, [newer, {**newer, "version": 3}])).json["imported"] == 1
        assert embedded == []
        del newer["embedding"]
        await take_in(gateway, [{**newer, "text": "My dog is called Rex.", "version": 4}])
        assert embedded == ["My dog is called Rex."]


async def test_a_text_that_a_plugin_changes_is_embedded(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hide(self: Remember, turn: Turn, records: Sequence[Record]) -> list[Record]:
        return [replace(record, text=record.text.replace("Miso", "***")) for record in records]

    exported = await told(tmp_path / "one", upstream)
    monkeypatch.setattr(Remember, "screened", hide)
    embedded.clear()
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        await take_in(gateway, exported)
        assert embedded
        assert sorted(embedded) == sorted(line["text"] for line in await lines(gateway) if "***" in line["text"])


async def test_copies_for_another_tenant_have_vectors_too(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str]
) -> None:
    exported = await told(tmp_path / "one", upstream)
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        await take_in(gateway, exported)
        embedded.clear()
        assert (await take_in(gateway, exported, "?tenant=other")).json["imported"] == len(exported)
        assert embedded == []
        copies = await lines(gateway, "?tenant=other&vectors=true")
        assert sorted(line["embedding"] for line in copies) == sorted(line["embedding"] for line in exported)
        assert not {line["id"] for line in copies} & {line["id"] for line in exported}


async def test_an_import_that_breaks_off_is_repeated(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends when half of the lines are in the journal, which knows no vectors after the start."""
    monkeypatch.setattr("gateway.maintenance.transfer._LINES_AT_ONCE", 1)
    monkeypatch.setattr("gateway.maintenance.transfer._BATCH_ITEMS", 3)
    exported = await told(tmp_path / "one", upstream)
    config = configuration(tmp_path, upstream.url)
    append, count = Journal.append, 0

    async def fail(self: Journal, records: Any, **options: Any) -> None:
        nonlocal count
        if (count := count + 1) > 1:
            raise OSError("the process ends")
        await append(self, records, **options)

    async with running_gateway(config) as gateway:
        monkeypatch.setattr(Journal, "append", fail)
        assert (await take_in(gateway, exported)).status == 500
    monkeypatch.setattr(Journal, "append", append)
    async with running_gateway(config) as gateway:
        assert len(await lines(gateway)) == 3
        embedded.clear()
        assert (await take_in(gateway, exported)).json == {"imported": 3, "unchanged": 3}
        assert embedded == []
        again = await lines(gateway, "?vectors=true")
        assert sorted(again, key=lambda line: str(line["id"])) == sorted(exported, key=lambda line: str(line["id"]))


async def test_a_vector_that_cannot_be_stored_is_not_tried_again(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = await told(tmp_path / "one", upstream)
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        embedded.clear()
        with monkeypatch.context() as patch:
            refuse_texts_with("Miso", patch)
            await take_in(gateway, exported)
        await gateway.settled()
        assert [text for text in embedded if "Miso" in text], "its vector may be the cause"


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
async def test_the_command_line_takes_vectors_along(
    tmp_path: Path, upstream: FakeUpstream, embedded: list[str], ending: str
) -> None:
    file = tmp_path / f"memories.{ending}"
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        await tell(gateway, "ada")
        exported = await lines(gateway, "?vectors=true")
        done = await gateway_command(tmp_path, "export", str(file), "--vectors", "--url", gateway.url)
        assert "6 memories exported" in done.stderr, done.stderr
        await gateway.post("/v1/memory/forget", {"everything": True, "purge": True})
        embedded.clear()
        done = await gateway_command(tmp_path, "import", str(file), "--url", gateway.url)
        assert "6 memories imported, 0 were there already" in done.stderr, done.stderr
        assert embedded == []
        vectors = {line["text"]: line["embedding"] for line in await lines(gateway, "?vectors=true")}
        assert vectors == {line["text"]: line["embedding"] for line in exported}
        if ending == "jsonl":
            in_file = [json.loads(line) for line in file.read_text().splitlines()]
            assert {line["text"]: line["embedding"] for line in in_file} == vectors
