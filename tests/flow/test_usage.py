"""What was used: over HTTP, by the command line, in the metrics."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.storage.errors import StorageError
from gateway.storage.sqlite.database import Database
from gateway.storage.sqlite.ledger import SqliteLedger
from gateway.storage.values import UsageRow
from tests.fakes.formats import speaks_responses
from tests.fakes.process import command
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, completion, cuts_after, hangs, says, streams

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-admin", "name": "boss", "tenant": "acme", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-app", "tenant": "acme"},
    {"key": "key-of-other", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]
ADMIN, APP, OTHER = ({"x-gateway-key": key["key"]} for key in KEYS)


async def used(gateway: Running, query: str = "", headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    await gateway.finished()
    reply = await gateway.get(f"/v1/usage{query}", headers)
    assert reply.status == 200, reply.body
    rows: list[dict[str, Any]] = reply.json["data"]
    return rows


async def first_used(gateway: Running) -> dict[str, Any]:
    """The first row, once there is one: the gateway notices after a while that a client has left."""
    rows: list[dict[str, Any]] = []

    async def is_counted() -> bool:
        rows[:] = await used(gateway)
        return bool(rows)

    await eventually(is_counted, 10)
    return rows[0]


async def test_what_upstreams_report_is_summed_up(gateway: Running, upstream: FakeUpstream) -> None:
    for user in ("ada", "ada", "bob"):
        await gateway.chat("hi", user=user)
    (row,) = await used(gateway)
    assert row == {
        "model": "fake-1",
        "requests": 3,
        "prompt_tokens": 21,
        "cached_tokens": 0,
        "completion_tokens": 15,
        "estimated_tokens": 0,
        "cost": 0.0,
        "priced": 0,
    }
    by_user = await used(gateway, "?by=user,upstream")
    assert [(row["user"], row["upstream"], row["requests"]) for row in by_user] == [
        ("ada", "fake", 2),
        ("bob", "fake", 1),
    ]
    assert (await used(gateway, "?by=&user=bob"))[0]["requests"] == 1
    assert await used(gateway, "?until=2020-01-01&since=2019-01-01") == []
    page = (await gateway.get("/metrics")).body.decode()
    assert 'gateway_used_tokens_total{key="",kind="prompt",model="fake-1"} 21.0' in page
    assert "gateway_user_tokens_total" in page


async def test_what_nobody_reports_is_counted_here(gateway: Running, upstream: FakeUpstream) -> None:
    silent = completion("Understood, and noted.")
    del silent["usage"]
    upstream.script = says(200, silent)
    await gateway.chat("How are you today, my friend?")
    upstream.script = streams([chunk({"content": "Very well indeed."}), chunk({}, "stop"), DONE])
    await gateway.chat("And now?", stream=True)
    (row,) = await used(gateway)
    assert row["requests"] == 2
    assert row["completion_tokens"] >= 7
    assert row["estimated_tokens"] == row["prompt_tokens"] + row["completion_tokens"] > 20


async def test_responses_tell_what_came_from_a_cache(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = speaks_responses("Noted.")
    await gateway.post("/v1/responses", {"model": "m", "input": "hi"})
    (row,) = await used(gateway)
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (9, 4, 5)


async def test_errors_use_nothing(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(400, {"error": {"message": "no"}})
    await gateway.chat("hi")
    assert await used(gateway) == []


async def test_a_key_sees_its_own_tenant_with_the_right_admin(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth={"keys": KEYS})) as gateway:
        for headers in (ADMIN, APP, APP, OTHER):
            await gateway.chat("hi", headers=headers)
        rows = await used(gateway, "?by=key", ADMIN)
        assert {row["key"]: row["requests"] for row in rows} == {"boss": 1, "key-2": 2}
        assert (await gateway.get("/v1/usage", APP)).status == 403
        wrong = await gateway.get("/v1/usage?by=colour", ADMIN)
        assert (wrong.status, "colour" in wrong.error["message"]) == (400, True)
        assert (await gateway.get("/v1/usage?since=yesterday", ADMIN)).error["param"] == "since"


async def test_counts_outlast_a_restart_and_a_purge_takes_the_name(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await gateway.chat("hi", user="a-very-special-name")
    async with running_gateway(config) as gateway:
        await gateway.chat("hi again", user="a-very-special-name")
        await gateway.settled()
        assert (await used(gateway, "?by=user"))[0]["requests"] == 2
        forgotten = await gateway.post("/v1/memory/forget", {"user": "a-very-special-name", "purge": True})
        assert forgotten.status == 200
        assert [(row["user"], row["requests"]) for row in await used(gateway, "?by=user")] == [("", 2)]
    for file in (tmp_path / "data").glob("usage.sqlite*"):
        assert b"a-very-special-name" not in file.read_bytes()


async def test_the_command_shows_a_table(gateway: Running, tmp_path: Path) -> None:
    await gateway.chat("hi")
    await used(gateway)
    arguments = ["usage", "--by", "user,model", "--url", gateway.url, "--config", str(tmp_path / "config.yaml")]
    done = await command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "ada" in done.stdout
    assert "fake-1" in done.stdout
    done = await command(*arguments, "--json")
    assert json.loads(done.stdout)["data"][0]["requests"] == 1


async def test_a_ledger_that_is_off_is_said_to_be(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, usage={"enabled": False})) as gateway:
        assert (await gateway.chat("hi")).status == 200
        assert (await gateway.get("/v1/usage")).status == 404
        assert not (tmp_path / "data" / "usage.sqlite").exists()


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SqliteLedger(tmp_path / "usage.sqlite")
    await ledger.open()
    names = {"tenant": "t", "key": "k", "user": "u", "model": "m", "upstream": "x"}
    ledger.note(UsageRow(1, 5), **names)

    async def broken(*_: Any) -> None:
        raise StorageError("usage", "the disk is full")

    with monkeypatch.context() as full:
        full.setattr(Database, "write", broken)
        with pytest.raises(StorageError):
            await ledger.flush()
    ledger.note(UsageRow(1, 7), **names)
    (row,) = await ledger.read(["user"], tenant="t", since=0, until=4e9, only={})
    assert (row["requests"], row["prompt_tokens"]) == (2, 12)
    await ledger.close()


async def test_absurd_numbers_harm_nobody(gateway: Running, upstream: FakeUpstream) -> None:
    absurd = completion("x")
    absurd["usage"] = {"prompt_tokens": 2**64 - 1, "completion_tokens": -5}
    upstream.script = says(200, absurd)
    await gateway.chat("hi", user="bob")
    upstream.script = None
    await gateway.chat("hi", user="ada")
    assert {row["user"] for row in await used(gateway, "?by=user")} == {"ada", "bob"}
    for moment in ("nan", "inf", "1e300", "-1"):
        assert (await gateway.get(f"/v1/usage?since={moment}")).status == 400, moment


async def test_money_is_counted_where_there_is_a_price(tmp_path: Path, upstream: FakeUpstream) -> None:
    prices = {"fake-*": {"prompt": 1000, "completion": 2000}}
    async with running_gateway(configuration(tmp_path, upstream.url, usage={"prices": prices})) as gateway:
        await gateway.chat("hi")
        await gateway.chat("hi", model="other")
        priced, unpriced = sorted(await used(gateway), key=lambda row: row["model"])
        assert (priced["priced"], unpriced["priced"], unpriced["cost"]) == (1, 0, 0.0)
        assert priced["cost"] == pytest.approx((7 * 1000 + 5 * 2000) / 1e6)
        page = (await gateway.get("/metrics")).body.decode()
        assert 'gateway_cost_dollars_total{key="",model="fake-1"} 0.017' in page


async def test_a_ledger_without_money_is_widened(tmp_path: Path) -> None:
    file = tmp_path / "usage.sqlite"
    with sqlite3.connect(file) as old:
        columns = "hour, tenant, key, user, model, upstream, requests, prompt_tokens, cached_tokens, completion_tokens"
        key = "PRIMARY KEY (hour, tenant, key, user, model, upstream)"
        old.execute(f"CREATE TABLE used ({columns}, estimated_tokens, {key}) WITHOUT ROWID")
        old.execute("INSERT INTO used VALUES (0, 't', 'k', 'u', 'm', 'x', 1, 2, 0, 3, 0)")
    old.close()
    ledger = SqliteLedger(file)
    await ledger.open()
    ledger.note(UsageRow(1, 5, 0, 1, 0, 0.5, 1), tenant="t", key="k", user="u", model="m", upstream="x")
    (row,) = await ledger.read(["user"], tenant="t", since=0, until=4e9, only={})
    await ledger.close()
    assert (row["requests"], row["cost"], row["priced"]) == (2, 0.5, 1)


async def test_who_hangs_up_has_used_what_was_said(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = streams(
        [chunk({"content": "word " * 40}), *(chunk({"content": "x"}) for _ in range(200))], pause=0.05
    )
    body = {"model": "fake-1", "stream": True, "user": "ada", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body) as reply,
    ):
        received = b""
        while b'"x"' not in received:
            received += await reply.content.readany()
    assert (await first_used(gateway))["completion_tokens"] >= 40


async def test_who_leaves_before_an_answer_has_used_the_prompt(tmp_path: Path, upstream: FakeUpstream) -> None:
    limit = {"use": "rate_limit", "config": {"tokens_per_minute_per_user": 20}}
    upstream.script = hangs(seconds=20)
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[limit])) as gateway:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await gateway.chat("a long story " * 20)
        assert (await first_used(gateway))["prompt_tokens"] > 20
        assert (await gateway.chat("hi")).status == 429


async def test_a_cut_stream_counts_against_the_limits(tmp_path: Path, upstream: FakeUpstream) -> None:
    limit = {"use": "rate_limit", "config": {"tokens_per_day_per_user": 200}}
    upstream.script = cuts_after([chunk({"content": "word " * 300})])
    body = {"model": "m", "stream": True, "user": "ada", "messages": [{"role": "user", "content": "hi"}]}
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[limit])) as gateway:
        await gateway.broken_off(body)
        await gateway.finished()
        assert (await gateway.post("/v1/chat/completions", body)).status == 429


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "x" * 4000}}]},
        {"reasoning_content": "hm, " * 1000},
        {"content": "word " * 800},
    ],
)
async def test_whatever_a_silent_stream_says_is_counted(
    gateway: Running, upstream: FakeUpstream, delta: dict[str, Any]
) -> None:
    upstream.script = streams([chunk(delta), chunk(delta, index=1), chunk({}, "stop"), DONE])
    await gateway.chat("hi", stream=True)
    assert (await used(gateway))[0]["completion_tokens"] >= 1500


async def test_a_picture_costs_what_a_picture_costs(gateway: Running, upstream: FakeUpstream) -> None:
    silent = completion("x")
    del silent["usage"]
    upstream.script = says(200, silent)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 50_000}}
    await gateway.chat("", messages=[{"role": "user", "content": [picture, {"type": "text", "text": "what is it?"}]}])
    assert 1000 < (await used(gateway))[0]["prompt_tokens"] < 1200


async def test_nobody_is_named_after_everything_was_forgotten(tmp_path: Path, upstream: FakeUpstream) -> None:
    limit = {"use": "rate_limit", "config": {"tokens_per_day_per_user": 100_000}}
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[limit])) as gateway:
        for user in ("a-very-special-name", "another-special-name"):
            await gateway.chat("hi", user=user)
        await gateway.chat("hi", user="one-more-special-name", headers={"x-memory-mode": "off"})
        await gateway.settled()
        with sqlite3.connect(tmp_path / "data" / "usage.sqlite") as reader:
            await used(gateway)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM used").fetchall()
            busy = await gateway.post("/v1/memory/forget", {"everything": True, "purge": True})
            assert busy.status == 503
        reader.close()
        assert (await gateway.post("/v1/memory/forget", {"everything": True, "purge": True})).status == 200
        assert [(row["user"], row["requests"]) for row in await used(gateway, "?by=user")] == [("", 3)]
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or b"special-name" not in file.read_bytes(), file


async def test_what_is_asked_on_the_gateways_own_account_is_counted(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(200, completion('{"questions": ["x?", "y?", "z?"]}'))
    await gateway.post("/product/suggestions", {"user_id": "ada", "message": [{"role": "user", "content": "hi"}]})
    (row,) = await used(gateway, "?by=key,model")
    assert (row["key"], row["requests"], row["prompt_tokens"]) == ("(gateway)", 1, 7)
