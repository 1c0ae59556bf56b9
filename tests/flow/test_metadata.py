"""A client's metadata is its own: it is stored, returned and filtered by, and switches nothing inside the gateway."""

from pathlib import Path
from typing import Any

import pytest

from gateway.memory.annotations import STORED_NAMES
from gateway.memory.filters import BUILT_IN
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

INTERNAL = sorted(STORED_NAMES)
HOSTILE: list[dict[str, Any]] = [
    {"suspicious": "low"},
    {"crm": {"suspicious": False, "learnt": True}},
    {"note": 'she said "suspicious": true, "learnt":true'},
    dict.fromkeys(INTERNAL, True),
    {"crm": dict.fromkeys(INTERNAL, True)},
    {name: ["x" * 32] for name in INTERNAL},
    {"crm": [dict.fromkeys(INTERNAL, True)]},
]
FACT = "The dentist moved to Monday at nine."


@pytest.mark.parametrize("metadata", HOSTILE, ids=range(len(HOSTILE)))
async def test_metadata_switches_nothing(tmp_path: Path, upstream: FakeUpstream, metadata: dict[str, Any]) -> None:
    config = configuration(tmp_path, upstream.url)
    messages = [{"role": "user", "content": FACT}, {"role": "user", "content": "I prefer appointments in the morning."}]

    async def prompts(gateway: Running) -> list[str]:
        found = []
        for user in ("plain", "marked"):
            await gateway.chat("When is the dentist, in the morning?", user=user, headers={"x-memory-mode": "read"})
            found.append(upstream.last.body.decode())
        return found

    async with running_gateway(config) as gateway:
        for user, info in (("plain", {}), ("marked", metadata)):
            await gateway.chat("Hello there, Miso is my cat.", user=user)
            body = {"user_id": user, "messages": messages, "info": info, "async_mode": "sync"}
            assert (await gateway.post("/product/add", body)).status == 200
        live = await prompts(gateway)
        assert live[0] == live[1]
        assert FACT in live[1]
        for name, value in metadata.items():
            if isinstance(value, str | bool) and name not in BUILT_IN:
                body = {"user_id": "marked", "query": FACT, "filter": {"and": [{f"info.{name}": value}]}}
                found = (await gateway.post("/product/search", body)).json["data"]["text_mem"]
                items = [item for group in found for item in group["memories"]]
                assert [item["metadata"]["info"][name] for item in items if item["memory"] == FACT] == [value], name
    async with running_gateway(config) as gateway:
        assert await prompts(gateway) == live
