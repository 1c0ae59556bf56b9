"""Why a chat got the memories that it got."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.calling import readable
from gateway.turn import SCORE_PARTS
from tests.fakes.process import command
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

KEYS = [
    {"key": "key-of-all", "tenant": "t"},
    {"key": "key-of-ada", "tenant": "t", "user": "ada"},
    {"key": "key-of-bob", "tenant": "t", "user": "bob"},
    {"key": "key-of-other", "tenant": "other"},
    {"key": "key-of-chat", "tenant": "t", "rights": ["chat"]},
]


async def recalled(gateway: Running, budget: int = 1024, key: str = "") -> str:
    """Say some things, ask for one of them, and return the id of that chat."""
    headers = {"x-gateway-key": key} if key else {}
    for number, text in enumerate(("My cat is called Miso.", "I moved to Lisbon in May.", "The train was late. " * 30)):
        await gateway.chat(text, session=f"s{number}", headers=headers)
    await gateway.settled()
    told = {**headers, "x-memory-budget": str(budget)}
    reply = await gateway.chat("What is my cat called?", session="new", headers=told)
    assert reply.headers["x-memory-status"] == "hit"
    return reply.headers["x-gateway-request-id"]


async def test_it_tells_what_was_searched_found_injected_and_cut(gateway: Running) -> None:
    told = (await gateway.get(f"/v1/memory/explain/{await recalled(gateway, budget=90)}")).json
    assert told["query"] == "What is my cat called?"
    assert (told["status"], told["token_budget"], told["user_id"]) == ("hit", 90, "ada")
    assert "My cat is called Miso." in told["injected"]["text"]
    assert told["injected"]["tokens"] <= 90
    outcomes = {one["text"][:10]: one["outcome"] for one in told["candidates"]}
    assert outcomes["My cat is "] == "injected"
    assert outcomes["The train "] == "over the token budget"
    best = told["candidates"][0]
    assert best["text"] == "My cat is called Miso."
    assert list(best["parts"]) == list(SCORE_PARTS)
    assert sum(best["parts"].values()) == pytest.approx(best["score"], abs=0.01)


async def test_a_chat_with_an_idempotency_key_is_explained_too(gateway: Running) -> None:
    reply = await gateway.chat("My cat is called Miso.", headers={"idempotency-key": "once"})
    told = await gateway.get(f"/v1/memory/explain/{reply.headers['x-gateway-request-id']}")
    assert told.json["query"] == "My cat is called Miso."


async def test_what_was_not_relevant_enough_is_told_too(gateway: Running) -> None:
    await gateway.chat("My cat is called Miso.", session="one")
    await gateway.settled()
    reply = await gateway.chat("Prove the theorem of Pythagoras", session="two")
    assert reply.headers["x-memory-status"] == "miss"
    told = (await gateway.get(f"/v1/memory/explain/{reply.headers['x-gateway-request-id']}")).json
    assert told["reason"] == "not_needed"
    assert {one["outcome"] for one in told["candidates"]} == {"request needs no memory"}
    assert told["need"]["probability"] < told["need"]["threshold"]


async def test_what_is_deleted_is_not_explained_any_more(gateway: Running) -> None:
    turn = await recalled(gateway)
    deleted = await gateway.post("/product/delete_memory", {"user_id": "ada", "writable_cube_ids": ["ada"]})
    assert deleted.status == 200
    reply = await gateway.get(f"/v1/memory/explain/{turn}")
    assert reply.status == 404
    assert "only the latest turns are kept" in reply.error["message"]


async def test_only_who_may_see_the_memories_may_see_the_explanation(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        await check_keys(gateway)


async def check_keys(gateway: Running) -> None:
    turn = await recalled(gateway, key="key-of-ada")

    async def status(key: str) -> int:
        return (await gateway.get(f"/v1/memory/explain/{turn}", {"x-gateway-key": key})).status

    assert [
        await status(key)
        for key in ("key-of-ada", "key-of-all", "key-of-bob", "key-of-other", "key-of-chat", "key-of-nobody")
    ] == [
        200,
        200,
        404,
        404,
        403,
        401,
    ]


@pytest.mark.parametrize("changes", [{"memory__recall__explain_turns": 0}])
async def test_nothing_is_kept_where_nothing_shall_be(gateway: Running) -> None:
    assert (await gateway.get(f"/v1/memory/explain/{await recalled(gateway)}")).status == 404


def test_what_is_printed_moves_no_cursor_and_is_no_markup() -> None:
    assert readable("\x1b[2Jred [bold]\u202e\nnext\t") == "\ufffd[2Jred \\[bold]\ufffd\nnext\ufffd"
    assert readable("家族 👩‍👩‍👧") == "家族 👩‍👩‍👧"


async def test_the_command_shows_a_table(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        turn = await recalled(gateway)

        async def run(*arguments: str) -> Any:
            where = ("--config", str(tmp_path / "config.yaml"), "--url", gateway.url)
            return await command("memory", "explain", *where, *arguments)

        shown = await run(turn)
        assert shown.returncode == 0, shown.stderr
        assert "injected" in shown.stdout
        assert "My cat is called Miso." in (await run(turn, "--json")).stdout
        unknown = await run("0" * 32)
        assert (unknown.returncode, "only the latest turns" in unknown.stderr) == (1, True)
    with contextlib.suppress(OSError):
        assert "no gateway answers" in (await run(turn)).stderr


async def test_the_beginning_of_an_id_is_enough_where_it_is_unique(gateway: Running) -> None:
    await gateway.post("/product/add", {"user_id": "ada", "messages": "One thing.", "async_mode": "sync"})
    reply = await gateway.chat("One thing?", headers={"x-memory-mode": "read"})
    name = reply.headers["x-gateway-request-id"]
    assert (await gateway.get(f"/v1/memory/explain/{name[:8]}")).json["request_id"] == name
    memory = (await gateway.get("/v1/memory/list?user=ada")).json["data"][0]["id"]
    for short in (memory[:4], memory[:8].upper(), memory[:31]):
        assert (await gateway.get(f"/v1/memory/history/{short}")).json["data"][0]["id"] == memory
    for wrong in (memory[:3], "zzzz", "%25", "'; --", "0" * 31):
        assert (await gateway.get(f"/v1/memory/history/{wrong}")).status == 404, wrong


async def test_a_beginning_that_several_ids_have_is_refused_with_their_names(gateway: Running) -> None:
    messages = [{"role": "user", "content": f"Thing {number}."} for number in range(1000)]
    await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    ids = sorted(one["id"] for one in (await gateway.get("/v1/memory/list?user=ada&limit=1000")).json["data"])
    pairs = [(one, other) for one, other in itertools.pairwise(ids) if one[:4] == other[:4]]
    assert pairs, "birthdays: of 1000 ids some begin alike"
    refused = await gateway.get(f"/v1/memory/history/{pairs[0][0][:4]}")
    assert (refused.status, refused.error["code"]) == (400, "ambiguous_id")
    assert pairs[0][1] in refused.error["message"]
