"""Another embedder for memories that are there: nothing is forgotten, before, while and after they are made anew."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from gateway.embedding.embedders import LocalEmbedder
from tests.fakes.process import command
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, hangs, running_upstream, says

FACTS = ["My cat is called Miso.", "I play the violin on Tuesdays.", "Our car is a red Volvo.", "我的生日是五月八日。"]
KEYS = [{"key": "key-of-admin", "rights": ["chat", "memory", "admin"]}, {"key": "key-of-app"}]


@pytest.fixture
async def server() -> AsyncIterator[FakeUpstream]:
    """A real embeddings server: the embedded model, its vectors one longer and turned round."""
    local = LocalEmbedder()
    await local.start()
    async with running_upstream() as fake:

        async def embed(_: Any) -> Any:
            vectors = await local.embed_documents(fake.last.json["input"])
            longer = np.concatenate([np.zeros((len(vectors), 1), np.float32), vectors[:, ::-1]], axis=1)
            data = [{"index": index, "embedding": vector.tolist()} for index, vector in enumerate(longer)]
            return await says(200, {"data": data})(_)

        fake.script = embed
        yield fake
    await local.stop()


def with_server(server: FakeUpstream) -> dict[str, Any]:
    return {"memory__embedder": {"kind": "openai", "base_url": server.url, "model": "other", "dimensions": 513}}


async def told(folder: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(folder, upstream.url)) as gateway:
        for number, fact in enumerate(FACTS):
            await gateway.chat(fact, session=f"s{number}")
        await gateway.settled()


async def knows(gateway: Running, upstream: FakeUpstream, question: str, fact: str) -> bool:
    await gateway.chat(question, session=f"asking {question}", headers={"x-memory-mode": "read"})
    content = str(upstream.last.json["messages"][-1]["content"])
    return fact in content


async def reindexed(gateway: Running) -> dict[str, Any]:
    async def is_done() -> bool:
        return bool((await gateway.get("/v1/memory/reindex")).json["state"] == "done")

    await eventually(is_done, 20)
    return dict((await gateway.get("/v1/memory/reindex")).json)


async def test_nothing_is_forgotten_when_the_embedder_changes(
    tmp_path: Path, upstream: FakeUpstream, server: FakeUpstream
) -> None:
    await told(tmp_path, upstream)
    async with running_gateway(configuration(tmp_path, upstream.url, **with_server(server))) as gateway:
        assert (await gateway.get("/ready")).json["reindex"] == "needed"
        # by meaning, not by words: the earlier embedder still answers for what it made
        assert await knows(gateway, upstream, "Which pet do we have at home?", FACTS[0])
        await gateway.chat("My dentist is Dr. Weiss.", session="new")
        await gateway.settled()
        assert (await gateway.post("/v1/memory/reindex", {})).status == 202
        progress = await reindexed(gateway)
        assert progress["rows"] >= len(FACTS) * 2 + 2
        for question, fact in (
            ("Which pet do we have at home?", FACTS[0]),
            ("What instrument am I learning?", FACTS[1]),
            ("Who looks after my teeth?", "My dentist is Dr. Weiss."),
            ("我是哪天出生的？", FACTS[3]),
        ):
            assert await knows(gateway, upstream, question, fact), question
    asked = len(server.received)
    async with running_gateway(configuration(tmp_path, upstream.url, **with_server(server))) as after:
        assert (await after.get("/ready")).json["reindex"] == "done"
        assert await knows(after, upstream, "Which pet do we have at home?", FACTS[0])
    assert len(server.received) == asked + 1, "a query only: no memory is embedded twice"


async def test_an_embedder_that_is_down_delays_the_job_and_costs_nothing_else(
    tmp_path: Path, upstream: FakeUpstream, server: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.embedding.embedders.OpenAIEmbedder._REST", 0.2)
    await told(tmp_path, upstream)
    works, server.script = server.script, says(500, {"error": {"message": "down"}})
    async with running_gateway(configuration(tmp_path, upstream.url, **with_server(server))) as gateway:
        await gateway.post("/v1/memory/reindex", {})

        async def has_failed() -> bool:
            return bool((await gateway.get("/v1/memory/reindex")).json["reason"])

        await eventually(has_failed, 20)
        assert await knows(gateway, upstream, "Which pet do we have at home?", FACTS[0])
        server.script = works
        await reindexed(gateway)
        assert await knows(gateway, upstream, "Which pet do we have at home?", FACTS[0])


async def test_it_goes_on_after_a_restart(tmp_path: Path, upstream: FakeUpstream, server: FakeUpstream) -> None:
    await told(tmp_path, upstream)
    works, asked = server.script, asyncio.Event()

    async def hang(request: Any) -> web.StreamResponse:
        asked.set()
        return await hangs(None, 60)(request)

    server.script = hang
    async with running_gateway(configuration(tmp_path, upstream.url, **with_server(server))) as gateway:
        await gateway.post("/v1/memory/reindex", {})
        await asyncio.wait_for(asked.wait(), 10)
    server.script = works
    async with running_gateway(configuration(tmp_path, upstream.url, **with_server(server))) as gateway:
        assert (await gateway.get("/ready")).json["reindex"] == "needed"
        await gateway.post("/v1/memory/reindex", {})
        await reindexed(gateway)
        for question, fact in (("Which pet do we have at home?", FACTS[0]), ("What do I drive?", FACTS[2])):
            assert await knows(gateway, upstream, question, fact)


async def test_the_command_works_with_and_without_a_running_gateway(
    tmp_path: Path, upstream: FakeUpstream, server: FakeUpstream
) -> None:
    await told(tmp_path, upstream)
    configuration(tmp_path, upstream.url, **with_server(server), server__port=9)

    async def run(*options: str) -> "subprocess.CompletedProcess[str]":
        return await command("memory", "reindex", "--config", str(tmp_path / "config.yaml"), *options)

    elsewhere = await run("--url", "http://127.0.0.1:9")
    assert (elsewhere.returncode, "no gateway answers" in elsewhere.stderr) == (1, True), "nothing is done elsewhere"
    alone = await run()
    assert (alone.returncode, "doing it here" in alone.stdout) == (0, True), alone.stderr
    assert "all memories are as configured" in alone.stdout
    config = configuration(tmp_path, upstream.url, **with_server(server))
    async with running_gateway(config) as gateway:
        assert (await gateway.get("/ready")).json["reindex"] == "done"
        done = await run("--url", gateway.url)
        assert (done.returncode, "0 made anew" in done.stdout) == (0, True), done.stderr


async def test_only_an_administrator_may_start_it(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        for key, status in (("key-of-app", 403), ("key-of-admin", 202)):
            assert (await gateway.post("/v1/memory/reindex", {}, {"x-gateway-key": key})).status == status
        assert (await gateway.get("/v1/memory/reindex", {"x-gateway-key": "key-of-app"})).status == 403
