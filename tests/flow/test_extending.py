"""Kinds of memories, upstreams and embedders, and APIs that a process or a package adds, without a change elsewhere."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.memory import kinds
from gateway.memory.kinds import MemoryKind
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

        retention = gateway.gateway.memory._retention
        assert retention is not None
        assert await retention.sweep(time.time()) == 1
        await gateway.settled()
        exported = (await gateway.get("/v1/memory/export")).body.splitlines()
        assert [(json.loads(line)["kind"], json.loads(line)["id"]) for line in exported] == [("reminder", "a" * 32)]
        document = (await gateway.get("/openapi.json")).body.decode()
        assert "document, reminder; several with commas" in document
