"""The jobs in `deploy/ray`, run by real Ray on one machine: a gateway takes what they write, and embeds nothing."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.embedding.embedders import LocalEmbedder
from tests.cluster.gateways.cluster import Cluster, listed, said
from tests.docs.reference.tables import ROOT
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream

JOBS = ROOT / "deploy" / "ray"
USERS = ("ada", "bob", "eve")


async def run_job(name: str, *arguments: str, folder: Path, status: int = 0) -> str:
    """The output of a job that is expected to end with this status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(JOBS / name), "--out", str(folder / "parts"), "--parts", "3", *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 500)
    assert process.returncode == status, output.decode()[-5000:]
    return output.decode()


def parts_in(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each part."""
    return {
        part.name: [json.loads(line) for file in part.glob("*.jsonl") for line in file.read_text().splitlines()]
        for part in sorted((folder / "parts").iterdir())
    }


async def import_parts(gateway: Running, folder: Path) -> int:
    """Import all parts at once. Returns the number of new memories."""
    files = sorted((folder / "parts").glob("*/*.jsonl"))
    replies = await asyncio.gather(*(gateway.post("/v1/memory/import", None, raw=file.read_bytes()) for file in files))
    assert [reply.status for reply in replies] == [200] * len(files), [reply.body for reply in replies]
    return sum(int(reply.json["imported"]) for reply in replies)


def count_embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that a gateway in this process embeds from now on."""
    texts: list[str] = []
    embed = LocalEmbedder.embed_documents

    async def counting(self: LocalEmbedder, documents: Any) -> Any:
        texts.extend(documents)
        return await embed(self, documents)

    monkeypatch.setattr(LocalEmbedder, "embed_documents", counting)
    return texts


async def test_lines_get_the_vectors_that_the_gateway_would_compute(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        {"id": f"{number:032x}", "owner": user, "cube_id": user, "user_id": user, "text": f"{user} owns boat {number}."}
        | dict.fromkeys(("event_time", "created_at", "updated_at"), 1.7e9 + number)
        for number, user in enumerate(USERS * 5)
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = configuration(tmp_path, upstream.url)
    output = await run_job(
        "embed.py", "--config", str(tmp_path / "config.yaml"), str(tmp_path / "lines.jsonl"), folder=tmp_path
    )
    assert "15 memories" in output
    parts = parts_in(tmp_path)
    for user in USERS:
        assert sum(any(line["owner"] == user for line in part) for part in parts.values()) == 1
    async with running_gateway(config) as gateway:
        texts = count_embedded(monkeypatch)
        assert await import_parts(gateway, tmp_path) == 15
        await gateway.settled()
        assert texts == []
        assert len(await listed(gateway, user="ada")) == 5
        exported = (await gateway.get("/v1/memory/export?vectors=true")).body.splitlines()
        vectors = {line["id"]: line["embedding"] for line in map(json.loads, exported)}
        assert vectors == {line["id"]: line["embedding"] for part in parts.values() for line in part}
        assert await import_parts(gateway, tmp_path) == 0


async def test_all_memories_of_a_cluster_get_to_another_one(
    cluster: Cluster, tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with cluster.running(1) as (gateway,):
        for user in USERS:
            assert await said(gateway, f"The key of {user} is in the shed.", user) == 200
            assert await said(gateway, f"Forget that {user} wrote this.", user, "t") == 200
            assert await said(gateway, f"Erase that {user} wrote this.", user, "unused") == 200
        await eventually(lambda: gateway.gateway.memory.barrier.drained(1), 30)
        reply = await gateway.post("/v1/memory/forget", {"user": "ada", "session": "unused", "purge": True})
        assert reply.status == 200, "the bucket is rebuilt: changes from now on are in another table"
        for entry in await listed(gateway, user="ada"):
            if entry["text"].startswith("Forget"):
                async with gateway.session.delete(f"{gateway.url}/v1/memory/{entry['id']}") as response:
                    assert response.status == 200
            elif entry["text"].startswith("The key"):
                async with gateway.session.patch(
                    f"{gateway.url}/v1/memory/{entry['id']}", json={"text": "The key of ada is under the mat."}
                ) as response:
                    assert response.status == 200
        await eventually(lambda: gateway.gateway.memory.barrier.drained(1), 30)
        before = await export(gateway)
    texts = [line["text"] for line in before.values()]
    assert "The key of ada is under the mat." in texts
    assert "Forget that ada wrote this." not in texts
    (tmp_path / "new").mkdir()
    config = configuration(tmp_path / "new", upstream.url)
    await run_job(
        "reembed.py",
        *("--source", str(source_of(cluster, tmp_path)), "--config", str(tmp_path / "new" / "config.yaml")),
        folder=tmp_path,
    )
    assert all("embedding" in line for part in parts_in(tmp_path).values() for line in part)
    async with running_gateway(config) as gateway:
        assert await import_parts(gateway, tmp_path) == len(before)
        await gateway.settled()
        assert await export(gateway) == before


async def test_a_cluster_is_not_read_while_memories_wait_to_be_stored(cluster: Cluster, tmp_path: Path) -> None:
    async with cluster.running(1, memory__store__flush_seconds=3600) as (gateway,):
        assert await said(gateway, "The key is in the shed.") == 200
    source = str(source_of(cluster, tmp_path))
    output = await run_job("reembed.py", "--source", source, "--config", source, folder=tmp_path, status=2)
    assert "memories wait in the journal: let a gateway run" in output
    assert not (tmp_path / "parts").exists()


async def export(gateway: Running) -> dict[str, dict[str, Any]]:
    """All lines of a gateway's export, archived memories included, by the ids of the memories."""
    lines = map(json.loads, (await gateway.get("/v1/memory/export")).body.splitlines())
    return {line["id"]: line for line in lines}


def source_of(cluster: Cluster, folder: Path) -> Path:
    """A configuration file of the cluster."""
    settings = cluster.settings()
    memory = {name.removeprefix("memory__"): value for name, value in settings.items()}
    (folder / "source.yaml").write_text(yaml.safe_dump({"memory": memory}), encoding="utf-8")
    return folder / "source.yaml"
