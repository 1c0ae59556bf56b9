"""Deletion over the memory API: a preview says exactly what the deletion then does."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Scale
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream
from tests.flow.test_memory_api import UNKNOWN, add, call

SENTENCES = [
    "I am allergic to peanuts. The cat is called Miso.",
    "Please call me Bert.",
    "The car is red and stands in the yard.",
    "I am vegetarian. My sister lives in York.",
    "Answer briefly, please.",
    "The boiler was serviced in May.",
]


async def delete(gateway: Running, **body: Any) -> dict[str, Any]:
    reply = await gateway.post("/v1/memory/delete", {"user": "ada", **body})
    assert reply.status == 200, reply.body
    answer: dict[str, Any] = reply.json
    return answer


async def state(gateway: Running) -> dict[str, tuple[int, str]]:
    """The version and the status of each memory."""
    answer = (await gateway.get("/v1/memory/timeline?user=ada&limit=1000")).json
    return {memory["id"]: (memory["version"], memory["status"]) for memory in answer["data"]}


def ids(memories: list[dict[str, Any]]) -> set[str]:
    return {memory["id"] for memory in memories}


async def test_a_deletion_does_what_its_preview_said(tmp_path: Path, upstream: FakeUpstream, scale: Scale) -> None:
    rng = random.Random(scale.seed)
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        for _ in range(scale(6, 60)):
            for text in rng.sample(SENTENCES, 3):
                await add(gateway, f"{text} It is {rng.randrange(10**6)}.")
            before = await state(gateway)
            for id_ in rng.sample(sorted(before), 2):
                change: dict[str, Any] = {"text": f"Now it is {rng.randrange(10**6)}."}
                await call(gateway, "PATCH", f"/v1/memory/{id_}", rng.choice([change, {"status": "archived"}]))
            before = await state(gateway)
            body: dict[str, Any] = rng.choice(
                [
                    {"ids": rng.sample(sorted(before), min(4, len(before)))},
                    {"filter": {"query": rng.choice(["PEANUTS", "cat", "now it", "is"])}},
                    {"filter": {"kind": rng.choice(["preference", "turn"])}},
                    {"filter": {"archived": True}},
                ]
            )
            preview = await delete(gateway, **body, preview=True)
            assert await state(gateway) == before, "a preview changes nothing"
            done = await delete(gateway, **body)
            after = await state(gateway)
            assert done["data"] == preview["data"]
            assert ids(done["derived"]) == ids(preview["derived"])
            assert ids(done["updated"]) == ids(preview["updated"])
            removed = ids(done["data"]) | ids(done["derived"])
            assert removed == before.keys() - after.keys()
            assert done["count"] == preview["count"] == len(removed)
            changed = {id_ for id_ in after if after[id_] != before[id_]}
            assert changed == ids(done["updated"])


async def test_a_single_deletion_takes_along_what_was_derived(gateway: Running) -> None:
    message, preference = await add(gateway, "I am allergic to peanuts.")
    path = f"/v1/memory/{message['id']}"
    preview = (await call(gateway, "DELETE", f"{path}?preview=true")).json
    assert (preview["object"], preview["preview"], preview["count"]) == ("deletion", True, 2)
    assert (ids(preview["data"]), ids(preview["derived"])) == ({message["id"]}, {preference["id"]})
    done = (await call(gateway, "DELETE", path)).json
    assert {**done, "preview": True} == preview
    assert await state(gateway) == {}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"query": "CAT"}, {"cat"}),
        ({"session": "home"}, {"cat", "car"}),
        ({"before": "2026-01-03"}, {"cat", "car"}),
        ({"after": "2026-01-03T00:00:00Z"}, {"boat"}),
        ({"after": 1_767_225_600, "before": 1_767_398_400.5}, {"car", "bus"}),
        ({"kind": "fact,turn", "session": "away"}, {"bus", "boat"}),
        ({"kind": "fact"}, {"boat"}),
        ({"archived": True}, {"bus"}),
        ({"archived": False, "session": "away"}, {"boat"}),
    ],
)
async def test_all_conditions_of_a_filter_hold(
    gateway: Running, conditions: dict[str, Any], expected: set[str]
) -> None:
    await add(gateway, "The cat.", session="home", at="2026-01-01")
    await add(gateway, "The car.", session="home", at="2026-01-02")
    (bus,) = await add(gateway, "The bus.", session="away", at="2026-01-03")
    await add(gateway, "The boat.", session="away", at="2026-01-04", kind="fact")
    await call(gateway, "PATCH", f"/v1/memory/{bus['id']}", {"status": "archived"})
    preview = await delete(gateway, filter=conditions, preview=True)
    assert {memory["text"][4:-1] for memory in preview["data"]} == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "filter"),
        ({"filter": {}}, "filter"),
        ({"filter": None, "ids": []}, "filter"),
        ({"ids": [UNKNOWN], "filter": {"query": "x"}}, "ids"),
        ({"ids": ["nonsense"]}, "ids.0"),
        ({"ids": [UNKNOWN] * 1001}, "ids"),
        ({"filter": {"query": ""}}, "filter.query"),
        ({"filter": {"kind": "mood"}}, "filter.kind"),
        ({"filter": {"before": "soon"}}, "filter.before"),
        ({"filter": {"after": 1e300}}, "filter.after"),
        ({"filter": {"archived": "yes"}}, "filter.archived"),
        ({"filter": {"everything": True}}, "filter.everything"),
        ({"filter": {"query": "x"}, "preview": "false"}, "preview"),
    ],
)
async def test_a_deletion_wants_to_know_what(gateway: Running, body: dict[str, Any], param: str) -> None:
    await add(gateway, "The cat.")
    reply = await gateway.post("/v1/memory/delete", {"user": "ada", **body})
    assert (reply.status, reply.error["param"]) == (400, param), reply.error
    assert len(await state(gateway)) == 1


async def test_deletions_at_once_delete_each_memory_once(gateway: Running) -> None:
    message, _ = await add(gateway, "I am allergic to peanuts.")
    path = f"/v1/memory/{message['id']}"
    replies = await asyncio.gather(*(call(gateway, "DELETE", path) for _ in range(4)))
    assert {reply.status for reply in replies} <= {200, 404}
    assert sum(reply.json["count"] for reply in replies if reply.status == 200) == 2


async def test_a_change_that_meets_a_deletion_brings_nothing_back(gateway: Running) -> None:
    memories = [(await add(gateway, f"Note number {number}."))[0] for number in range(6)]
    changes = [call(gateway, "PATCH", f"/v1/memory/{memory['id']}", {"text": "Changed."}) for memory in memories]
    deletion = asyncio.create_task(delete(gateway, ids=[memory["id"] for memory in memories]))
    replies = await asyncio.gather(*changes)
    await deletion
    assert {reply.status for reply in replies} <= {200, 404}
    assert await state(gateway) == {}


async def test_a_large_deletion_goes_in_parts(tmp_path: Path, upstream: FakeUpstream) -> None:
    import json

    line = {"cube_id": "ada", "owner": "ada", "user_id": "ada"} | dict.fromkeys(
        ("event_time", "created_at", "updated_at"), 1.7e9
    )
    raw = b"\n".join(
        json.dumps({"id": f"{number:032x}", "text": f"Note {number}.", **line}).encode() for number in range(1005)
    )
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        assert (await gateway.post("/v1/memory/import", None, raw=raw)).json["imported"] == 1005
        first = await delete(gateway, filter={"query": "note"})
        assert (first["count"], first["has_more"]) == (1000, True)
        second = await delete(gateway, filter={"query": "note"})
        assert (second["count"], second["has_more"]) == (5, False)
    async with running_gateway(config) as gateway:
        assert await state(gateway) == {}
