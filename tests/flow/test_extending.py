"""Kinds of memories, upstreams and embedders, and APIs that a process or a package adds, without a change elsewhere."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.api import registry
from gateway.config.embedder_kinds import EMBEDDER_KINDS
from gateway.config.upstream_kinds import UPSTREAM_KINDS
from gateway.embedding.kinds import register as register_embedder
from gateway.errors import BadRequest, GatewayError
from gateway.memory import kinds
from gateway.memory.kinds import MemoryKind
from gateway.server.apis import Api
from gateway.server.guard import principal_of
from gateway.turn import Right
from gateway.upstream.kinds import register as register_upstream
from tests.fakes.hashing import HASHING
from tests.fakes.mirror import MIRROR
from tests.fakes.packages import install_package
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

DAY = 86_400


@pytest.fixture
def reminder() -> Iterator[None]:
    kinds.register(MemoryKind(name="reminder", memos_type="ReminderMemory"))
    yield
    del kinds.KINDS["reminder"]


def reminder_line(id_: str, text: str, at: float) -> bytes:
    line = {"id": id_ * 32, "cube_id": "ada", "owner": "ada", "user_id": "ada", "kind": "reminder", "text": text}
    return json.dumps(line | dict.fromkeys(("event_time", "created_at", "updated_at"), at)).encode()


@pytest.mark.usefixtures("reminder")
async def test_a_registered_kind_of_memories_goes_everywhere(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__retention={"max_age_days": {"reminder": 30}})
    async with running_gateway(config) as gateway:
        now = time.time()
        lines = [
            reminder_line("a", "Water the ficus of aunt Hilda every Friday.", now),
            reminder_line("b", "Return the library book on beetles.", now - 40 * DAY),
        ]
        imported = await gateway.post("/v1/memory/import", None, raw=b"\n".join(lines))
        assert imported.json == {"imported": 2, "unchanged": 0}

        await gateway.chat("When do I water the ficus of aunt Hilda?", headers={"x-memory-mode": "read"})
        assert "every Friday" in upstream.last.body.decode()

        listed = (await gateway.get("/v1/memory/list?user=ada&kind=reminder")).json["data"]
        assert {memory["id"] for memory in listed} == {"a" * 32, "b" * 32}
        assert (await gateway.get("/v1/memory/list?user=ada&kind=turn")).json["data"] == []
        search = {"user_id": "ada", "query": "ficus of aunt Hilda", "relativity": 0}
        (cube,) = (await gateway.post("/product/search", search)).json["data"]["text_mem"]
        assert cube["memories"][0]["metadata"]["memory_type"] == "ReminderMemory"
        typed = search | {"search_memory_type": "ReminderMemory"}
        assert len((await gateway.post("/product/search", typed)).json["data"]["text_mem"][0]["memories"]) == 2
        detail = (await gateway.get(f"/product/get/memory/{'a' * 32}")).json["data"]
        assert (detail["memory_type"], detail["memory_value"][:5]) == ("ReminderMemory", "Water")
        page = (await gateway.post("/product/get/memory", {"user_id": "ada"})).json["data"]
        assert {item["memory_type"] for item in page["memory_detail_list"]} == {"ReminderMemory"}

        retention = gateway.gateway.memory.retention
        assert retention is not None
        assert await retention.sweep(time.time()) == 1
        await gateway.settled()
        exported = (await gateway.get("/v1/memory/export")).body.splitlines()
        assert [(json.loads(line)["kind"], json.loads(line)["id"]) for line in exported] == [("reminder", "a" * 32)]
        document = (await gateway.get("/openapi.json")).body.decode()
        assert ", reminder; several with commas" in document


@pytest.fixture
def mirror() -> Iterator[None]:
    register_upstream(MIRROR)
    yield
    UPSTREAM_KINDS.unregister("mirror")


@pytest.mark.usefixtures("mirror")
async def test_a_registered_kind_of_upstreams_answers_and_is_remembered(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, upstreams=[{"name": "mine", "kind": "mirror", "models": ["*"]}])
    async with running_gateway(config) as gateway:
        reply = await gateway.chat("My ferret is called Biscuit.")
        assert reply.json["choices"][0]["message"]["content"] == "My ferret is called Biscuit."
        await gateway.settled()
        memories = (await gateway.get("/v1/memory/list?user=ada")).json["data"]
        assert {memory["source"] for memory in memories} == {"user", "assistant"}
    assert upstream.received == []


@pytest.fixture
def hashing() -> Iterator[None]:
    register_embedder(HASHING)
    yield
    EMBEDDER_KINDS.unregister("hashing")


@pytest.mark.usefixtures("hashing")
async def test_a_registered_kind_of_embedders_makes_the_vectors(tmp_path: Path, upstream: FakeUpstream) -> None:
    embedder = {"kind": "hashing", "model": "words", "dimensions": 64}
    async with running_gateway(configuration(tmp_path, upstream.url, memory__embedder=embedder)) as gateway:
        await gateway.chat("My ferret is called Biscuit.", session="first")
        await gateway.settled()
        await gateway.chat("What is my ferret called?", session="second", headers={"x-memory-mode": "read"})
        assert "Biscuit" in upstream.last.body.decode()
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:  # the bundled model, and old vectors
        assert (await gateway.get("/v1/memory/reindex")).json["state"] == "needed"
        await gateway.chat("What is my ferret called?", session="third", headers={"x-memory-mode": "read"})
        assert "Biscuit" in upstream.last.body.decode()


async def run_gateway(packages: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(packages), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, "-m", "gateway", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=100, env=environment, check=False
    )


async def test_a_package_adds_a_kind_of_embedders(tmp_path: Path) -> None:
    source = (Path(__file__).parents[1] / "fakes" / "hashing.py").read_text(encoding="utf-8")
    entry = "hashing = hashing_words:HASHING"
    packages = install_package(tmp_path / "packages", "hashing_words", source, "memory_gateway.embedders", entry)
    (tmp_path / "config.yaml").write_text("memory: {embedder: {kind: hashing}}", encoding="utf-8")
    result = await run_gateway(packages, "check", "--config", str(tmp_path / "config.yaml"))
    assert result.returncode == 0, result.stderr
    assert "hashing of hashing_words 1.0" in result.stdout


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ("mirror = mirror_model:MIRROR", 0, "mine (mirror of mirror_model 1.0)"),
        (
            "mirror = mirror_model:MIROR",
            2,
            "upstreams[0].kind: the kind 'mirror' of mirror_model 1.0 (mirror_model:MIROR) cannot be loaded: "
            "AttributeError",
        ),
    ],
)
async def test_a_package_adds_a_kind_of_upstreams(
    tmp_path: Path, upstream: FakeUpstream, entry: str, code: int, message: str
) -> None:
    source = (Path(__file__).parents[1] / "fakes" / "mirror.py").read_text(encoding="utf-8")
    packages = install_package(tmp_path / "packages", "mirror_model", source, "memory_gateway.upstreams", entry)
    (tmp_path / "config.yaml").write_text("upstreams: [{name: mine, kind: mirror}]", encoding="utf-8")
    result = await run_gateway(packages, "check", "--config", str(tmp_path / "config.yaml"))
    assert result.returncode == code, result.stderr
    assert message in result.stdout + result.stderr


KEYS: list[dict[str, Any]] = [{"key": "key-of-all", "tenant": "acme"}, {"key": "key-of-chat", "rights": ["chat"]}]


def build_parrot(services: registry.ApiContext) -> Api:
    """A made-up API with a route that answers with the number of upstreams, or with an error."""

    async def count(request: web.Request) -> web.Response:
        if request.match_info["word"] == "grey":
            raise BadRequest("no parrot is grey")
        upstreams = len(services.services.pipeline.forwarder.upstreams)
        return web.json_response({"tenant": principal_of(request).tenant, "upstreams": upstreams})

    def write_error(error: GatewayError) -> bytes:
        return orjson.dumps({"squawk": error.message})

    return Api(
        name="parrot",
        routes=[web.get("/v1/parrot/{word}", count)],
        prefixes=("/v1/parrot",),
        right=Right.MEMORY,
        write_error=write_error,
        describe=lambda schemas: {"/v1/parrot/{word}": {"get": {"summary": "Count upstreams", "responses": {}}}},
    )


@pytest.fixture
def parrot() -> Iterator[None]:
    registry.register(build_parrot)
    yield
    registry.unregister(build_parrot)


@pytest.mark.usefixtures("parrot")
async def test_a_registered_api_has_its_routes_rights_errors_and_description(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        everything, chat_only = ({"x-gateway-key": str(key["key"])} for key in KEYS)
        assert (await gateway.get("/v1/parrot/red", everything)).json == {"tenant": "acme", "upstreams": 1}
        refused = {
            ("/v1/parrot/grey", "key-of-all"): (400, "no parrot is grey"),
            ("/v1/parrot/red", "key-of-chat"): (403, "this key does not have the right `memory`"),
            ("/v1/parrot/red", "no-such-key"): (401, ""),
        }
        for (path, key), (status, message) in refused.items():
            reply = await gateway.get(path, {"x-gateway-key": key})
            assert reply.status == status
            assert reply.json["squawk"].startswith(message)
        assert (await gateway.get("/v1/models", chat_only)).status == 200
        assert "/v1/parrot/{word}" in (await gateway.get("/openapi.json")).json["paths"]
        metrics = (await gateway.get("/metrics")).body.decode()
        assert 'gateway_requests_total{face="parrot",status="400"} 1.0' in metrics
