"""`gateway memory move`: a memory goes from a folder to a cluster and back, and is the same everywhere."""

import asyncio
import base64
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cluster.gateways.cluster import Cluster
from tests.fakes.process import Process, command, running_process, started_process, stopped
from tests.fakes.running import configuration, eventually
from tests.fakes.s3_proxy import FaultyS3
from tests.fakes.upstream import FakeUpstream
from tests.fakes.warm import start

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-acme", "tenant": "acme", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-other", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]
TENANTS = [key["key"] for key in KEYS]
NEVER = 3600
pytestmark = pytest.mark.timeout(300)  # each command is a process that imports the whole gateway
FACTS = ["My boat is called Argo.", "I was born in Kiel.", "The dentist is Dr. Weiß.", "My code has a \0 in it."]
QUESTIONS = ["What is my boat called?", "Where was I born?", "Who is my dentist?", "What do I drink?", "Which canteen?"]


async def send(
    gateway: Process, method: str, path: str, body: Any = None, key: str = TENANTS[0], **headers: str
) -> Any:
    given = {"content-type": "application/json", "x-gateway-key": key, **headers}
    data = None if body is None else json.dumps(body)
    async with gateway.session.request(method, gateway.url + path, data=data, headers=given) as response:
        content = await response.read()
        assert response.status in (200, 201), (path, content)
        return content if path.startswith("/v1/memory/export") else json.loads(content)


async def chat(gateway: Process, text: str, user: str, key: str = TENANTS[0]) -> None:
    body = {"model": "fake-1", "messages": [{"role": "user", "content": text}]}
    headers = {"x-memory-user": user, "x-memory-session": f"of-{user}"}
    await send(gateway, "POST", "/v1/chat/completions", body, key, **headers)


async def fill(gateway: Process) -> None:
    """Memories of all kinds, in all states, of two tenants; a file, changed settings, usage."""
    for user in ("ada", "bob", "eve"):
        for text in FACTS:
            await chat(gateway, f"{text} {user}.", user)
    await chat(gateway, "The other tenant has a secret.", "ada", TENANTS[1])
    ids = [
        (await send(gateway, "POST", "/v1/memory", {"user": "ada", "text": text}))["data"][0]["id"]
        for text in ("The car is red.", "The gym is on Mondays.", "Forget this.", "I drink tea.")
    ]
    await send(gateway, "PATCH", f"/v1/memory/{ids[0]}", {"text": "The car is blue."})
    await send(gateway, "PATCH", f"/v1/memory/{ids[1]}", {"status": "archived"})
    await send(gateway, "DELETE", f"/v1/memory/{ids[2]}")
    owner = dict.fromkeys(("user_id", "cube_id", "owner"), "ada")
    times = dict.fromkeys(("event_time", "created_at", "updated_at"), 1e9)
    foreign = {"id": "f" * 32, "text": "My grandfather was a baker.", **owner, **times}  # of another installation
    await send(gateway, "POST", "/v1/memory/import", {**foreign, "tenant": "acme"})
    base = await send(gateway, "POST", "/product/create/knowledgebase", {"knowledgebase_name": "Handbook"})
    id_ = base["data"]["id"]
    file = {"name": "canteen.txt", "content": base64.b64encode(b"The canteen closes at two.").decode()}
    await send(gateway, "POST", "/product/add/knowledgebase-file", {"knowledgebase_id": id_, "file": [file]})

    async def is_processed() -> bool:
        files = await send(gateway, "POST", "/product/get/knowledgebase-file", {"knowledgebase_id": id_})
        return bool(files["data"]["file_detail_list"][0]["status"] == "completed")

    await eventually(is_processed, 20)
    await send(gateway, "POST", "/product/configure", {"temperature": 0.125})


async def content(gateway: Process) -> dict[str, Any]:
    """All that a client can learn of the memory."""
    await gateway.settled()
    known: dict[str, Any] = {}
    for key in TENANTS:
        lines = (await send(gateway, "GET", "/v1/memory/export?vectors=true", key=key)).splitlines()
        known[f"{key} export"] = sorted((json.loads(line) for line in lines), key=lambda line: str(line["id"]))
        known[f"{key} usage"] = (await send(gateway, "GET", "/v1/usage?by=user,model", key=key))["data"]
        for user in ("ada", "bob"):
            for question in QUESTIONS:
                path = f"/v1/memory/search?user={user}&query={question.replace(' ', '+')}"
                known[f"{key} {user} {question}"] = (await send(gateway, "GET", path, key=key))["data"]
            listed = (await send(gateway, "GET", f"/v1/memory/list?user={user}&limit=200", key=key))["data"]
            known[f"{key} {user} list"] = listed
            for memory in listed:
                path = f"/v1/memory/history/{memory['id']}"
                known[f"{key} history {memory['id']}"] = (await send(gateway, "GET", path, key=key))["data"]
    known["archived"] = (await send(gateway, "GET", "/v1/memory/list?user=ada&archived=true"))["data"]
    known["settings"] = (await send(gateway, "GET", "/product/configure"))["data"]
    return known


async def move(source: Path, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    files = (str(folder / "config.yaml") for folder in (source, target))
    return await command("memory", "move", "--config", next(files), "--to", next(files), *options)


class Places:
    """A folder and a cluster with configurations that differ in the place of the memory only."""

    def __init__(self, cluster: Cluster, folder: Path, upstream: FakeUpstream) -> None:
        self.cluster, self.folder, self.upstream = cluster, folder, upstream
        self.changes: dict[str, Any] = {"auth__keys": KEYS, "memory__store__flush_seconds": 0.2}
        self.target = cluster.configuration("cluster", **self.changes).folder

    def create_folder(self, name: str, **changes: Any) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return configuration(folder, self.upstream.url, **self.changes, **changes).folder

    async def create_memory(self, text: str = FACTS[0]) -> Path:
        """A folder with a memory."""
        folder = self.create_folder("folder")
        async with running_process(folder, self.upstream.url, **self.changes) as gateway:
            await chat(gateway, text, "ada")
            await gateway.settled()
            assert await gateway.terminate() == 0
        return folder


@pytest.fixture
def places(cluster: Cluster, tmp_path: Path, upstream: FakeUpstream) -> Places:
    return Places(cluster, tmp_path, upstream)


async def test_a_memory_is_the_same_in_a_cluster_and_in_a_folder_again(places: Places) -> None:
    changes = places.changes
    folder = places.create_folder("folder", memory__buckets=8)
    async with running_process(folder, places.upstream.url, memory__buckets=8, **changes) as gateway:
        await fill(gateway)
        assert await gateway.terminate() == 0
    slow = {**changes, "memory__store__flush_seconds": NEVER}
    async with running_process(folder, places.upstream.url, **slow) as gateway:  # its last memories are not stored
        await chat(gateway, "My tent is in the cellar.", "ada")
        await gateway.kill()
    assert count_waiting(folder) > 0
    copy = places.create_folder("copy")
    shutil.copytree(folder / "data", copy / "data")
    async with running_process(copy, places.upstream.url, **changes) as gateway:
        before = await content(gateway)

    outcome = await move(folder, places.target)
    assert outcome.returncode == 0, outcome.stderr
    async with places.cluster.process("cluster", **changes) as gateway:
        assert (await gateway.state())["cluster"]["buckets"] == 8
        memory = await send(gateway, "GET", f"/v1/memory/{'f' * 32}")  # before its user's memories are loaded
        assert memory["text"] == "My grandfather was a baker."
        assert_same(await content(gateway), before)
        await chat(gateway, "My bike is green.", "bob")
        before = await content(gateway)
        assert await gateway.terminate() == 0

    back = places.create_folder("back")
    outcome = await move(places.target, back)
    assert outcome.returncode == 0, outcome.stderr
    async with running_process(back, places.upstream.url, **changes) as gateway:
        assert_same(await content(gateway), before)
        await chat(gateway, "My kite is yellow.", "bob")
        await gateway.settled()
        assert any("kite" in line["text"] for line in (await content(gateway))[f"{TENANTS[0]} export"])


def assert_same(known: dict[str, Any], before: dict[str, Any]) -> None:
    assert known.keys() == before.keys()
    for name, value in before.items():
        assert known[name] == value, name


def count_waiting(folder: Path) -> int:
    with sqlite3.connect(folder / "data" / "journal.sqlite") as connection:
        return int(connection.execute("SELECT count(*) FROM entries WHERE state=0").fetchone()[0])


async def test_a_memory_is_moved_to_the_data_folder_that_gateways_use(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = await places.create_memory()
    assert (await move(folder, places.target, "--data", str(folder / "data"))).returncode == 0
    back, used = places.create_folder("back"), tmp_path / "used"
    (used / "lost+found").mkdir(parents=True)  # a volume
    monkeypatch.setenv("GATEWAY_DATA", str(used))  # as in the image
    outcome = await move(places.target, back)
    assert (outcome.returncode, (back / "data").exists()) == (0, False), outcome.stderr
    async with started_process(back) as gateway:
        assert len(await gateway_texts(gateway)) == 2
    assert json.loads((used / "meta.json").read_text())["format"] == 1


async def test_no_gateway_starts_where_a_memory_was_moved_away(places: Places) -> None:
    folder = await places.create_memory()
    outcome = await move(folder, places.target, "--dry-run")
    assert (outcome.returncode, "nothing was moved" in outcome.stdout) == (0, True), outcome.stderr
    assert (await move(folder, places.target)).returncode == 0
    for way in ("serve", "check"):
        outcome = await command(way, "--config", str(folder / "config.yaml"))
        assert outcome.returncode == 1
        assert "the memory was moved to s3://" in outcome.stderr
        assert "moved.json" in outcome.stderr
    outcome = await move(folder, places.target)
    assert (outcome.returncode, "was moved to" in outcome.stderr) == (1, True)
    mark = json.loads((folder / "data" / "moved.json").read_text())
    assert mark["counts"]["memories"] > 0
    back = places.create_folder("back")
    assert (await move(places.target, back)).returncode == 0
    for way, status in (("serve", 2), ("check", 1)):
        outcome = await command(way, "--config", str(places.target / "config.yaml"))
        assert outcome.returncode == status
        assert f"the memory was moved to {back}" in outcome.stderr
    (folder / "data" / "moved.json").unlink()
    async with running_process(folder, places.upstream.url, **places.changes) as gateway:
        assert len(await gateway_texts(gateway)) == 2


async def gateway_texts(gateway: Process) -> list[str]:
    await gateway.settled()
    lines = (await send(gateway, "GET", "/v1/memory/export")).splitlines()
    return [json.loads(line)["text"] for line in lines]


async def test_damage_of_the_source_is_repaired_and_reported(places: Places) -> None:
    folder = await places.create_memory()
    torn = next((folder / "data" / "lance").glob("*/data/*.lance"))
    torn.write_bytes(torn.read_bytes()[:50])
    outcome = await move(folder, places.target)
    assert outcome.returncode == 0, outcome.stderr
    assert "table_mended" in outcome.stderr
    assert f"a repair has set aside in {folder / 'data'} (broken/" in outcome.stdout
    async with places.cluster.process("cluster", **places.changes) as gateway:
        assert len(await gateway_texts(gateway)) == 2  # the journal had them


async def test_a_memory_that_a_gateway_uses_is_not_moved(places: Places) -> None:
    folder = places.create_folder("folder")
    async with running_process(folder, places.upstream.url, **places.changes) as gateway:
        await chat(gateway, FACTS[0], "ada")
        outcome = await move(folder, places.target)
        assert (outcome.returncode, "another process uses" in outcome.stderr) == (1, True)
        assert await gateway.terminate() == 0
    assert (await move(folder, places.target)).returncode == 0
    back = places.create_folder("back")
    async with places.cluster.process("cluster", **places.changes):
        outcome = await move(places.target, back)
        assert (outcome.returncode, "gateways run on s3://" in outcome.stderr) == (1, True)
    assert not (back / "data").exists()


async def test_a_memory_is_not_moved_onto_another_one(places: Places) -> None:
    folder = await places.create_memory()
    other = places.create_folder("other")
    (other / "data").mkdir()
    (other / "data" / "notes.txt").write_text("mine")
    async with places.cluster.process("cluster", **places.changes) as gateway:
        await chat(gateway, FACTS[0], "ada")
        await gateway.settled()
        assert await gateway.terminate() == 0
    outcome = await move(folder, places.target)
    assert (outcome.returncode, "the database is not empty" in outcome.stderr) == (1, True)
    outcome = await move(places.target, other)
    assert (outcome.returncode, "is not empty (it has notes.txt)" in outcome.stderr) == (1, True)
    with psycopg.connect(places.cluster.database_url, autocommit=True) as connection:
        connection.execute(b"DROP SCHEMA memory_gateway CASCADE")
    outcome = await move(folder, places.target)
    assert (outcome.returncode, "there are tables of memories at s3://" in outcome.stderr) == (1, True)


async def test_configurations_that_do_not_fit_are_refused(places: Places) -> None:
    folder = await places.create_memory()
    outcome = await move(folder, places.create_folder("other"))
    assert (outcome.returncode, "both configurations name data folders" in outcome.stderr) == (1, True)
    embedder = {"kind": "openai", "base_url": places.upstream.url, "model": "m", "dimensions": 8}
    places.cluster.configuration("cluster", memory__embedder=embedder, **places.changes)
    outcome = await move(folder, places.target)
    assert (outcome.returncode, "memory.embedder differs" in outcome.stderr) == (1, True)
    places.cluster.configuration("cluster", auth__keys=KEYS[1:])
    outcome = await move(folder, places.target)
    assert (outcome.returncode, "the tenant 'acme' has memories" in outcome.stderr) == (1, True)
    empty = places.create_folder("empty")
    database = places.cluster.database_url.rpartition("/")[0] + "/missing"
    places.cluster.configuration("cluster", **{**places.changes, "memory__database": database})
    outcome = await move(folder, places.target)
    assert (outcome.returncode, "memory.database: there is no such database" in outcome.stderr) == (1, True)
    places.cluster.configuration("cluster", **places.changes)
    outcome = await move(empty, places.target)
    assert (outcome.returncode, "there is no memory in" in outcome.stderr) == (1, True)
    places.cluster.configuration("cluster", **places.changes)
    outcome = await move(places.target, empty)
    assert (outcome.returncode, "there is no memory of s3://" in outcome.stderr) == (1, True)


@asynccontextmanager
async def moving(source: Path, target: Path) -> AsyncIterator[BaseProcess]:
    """The command in a process that a test stops."""
    arguments = ["memory", "move", "--config", str(source / "config.yaml"), "--to", str(target / "config.yaml")]
    process = await asyncio.to_thread(start, arguments, output=source / "move.out", errors=source / "move.log")
    try:
        yield process
    finally:
        await stopped(process)


async def test_an_interrupted_move_to_a_cluster_is_completed_by_the_next_one(places: Places, s3: FaultyS3) -> None:
    folder = await places.create_memory()
    s3.delays["PUT"] = 0.5
    async with moving(folder, places.target) as process:
        assert process.pid is not None
        await eventually(lambda: sum(".lance/data/" in path for path in s3.paths) > 0, 30)
        os.kill(process.pid, signal.SIGINT)
        await asyncio.to_thread(process.join, 20)
        assert process.exitcode == 130, (folder / "move.log").read_text()
        output = (folder / "move.out").read_text()
        assert "copying tables" in output
        assert f"stopped: the memory is still at {folder / 'data'}: run the command again" in output
    s3.delays.clear()
    outcome = await command("serve", "--config", str(places.target / "config.yaml"))
    assert (outcome.returncode, "has not arrived completely" in outcome.stderr) == (2, True)
    async with running_process(folder, places.upstream.url, **places.changes) as gateway:  # it is still the memory
        await chat(gateway, FACTS[1], "ada")
        before = await content(gateway)
        assert await gateway.terminate() == 0
    outcome = await move(folder, places.target)
    assert outcome.returncode == 0, outcome.stderr
    async with places.cluster.process("cluster", **places.changes) as gateway:
        assert_same(await content(gateway), before)


async def test_an_interrupted_move_from_a_cluster_is_completed_by_the_next_one(places: Places, s3: FaultyS3) -> None:
    async with places.cluster.process("cluster", **places.changes) as gateway:
        for text in FACTS:
            await chat(gateway, text, "ada")
        before = await content(gateway)
        assert await gateway.terminate() == 0
    back = places.create_folder("back")
    s3.forget()
    s3.delays["GET"] = 1.0
    async with moving(places.target, back) as process:
        await eventually((back / "data" / "arriving.json").exists, 40)
        process.kill()
    s3.delays.clear()
    outcome = await command("serve", "--config", str(back / "config.yaml"))
    assert (outcome.returncode, "has not arrived completely" in outcome.stderr) == (1, True)

    outcome = await move(places.target, back)
    assert "if it was killed, for 10 seconds" in outcome.stderr

    async def is_moved() -> bool:  # when the lease of the killed command has run out
        outcome = await move(places.target, back)
        return outcome.returncode == 0

    await eventually(is_moved, 40)
    async with running_process(back, places.upstream.url, **places.changes) as gateway:
        assert_same(await content(gateway), before)


async def test_a_move_that_lacks_its_last_step_only_is_completed(places: Places) -> None:
    folder = await places.create_memory()
    assert (await move(folder, places.target)).returncode == 0
    mark = json.loads((folder / "data" / "moved.json").read_text())
    mark |= {"state": "arrived", "place": str(folder / "data")}
    with psycopg.connect(places.cluster.database_url, autocommit=True) as connection:
        connection.execute(b"INSERT INTO memory_gateway.documents VALUES ('move', %s)", (json.dumps(mark).encode(),))
    outcome = await command("serve", "--config", str(places.target / "config.yaml"))
    assert (outcome.returncode, "has not arrived completely" in outcome.stderr) == (2, True)
    outcome = await move(folder, places.target)
    assert outcome.returncode == 0, outcome.stderr
    async with places.cluster.process("cluster", **places.changes) as gateway:
        assert len(await gateway_texts(gateway)) == 2
