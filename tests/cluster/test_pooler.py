"""All works through a pooler in transaction mode; only the feed is a little slower."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.storage.postgres.feed import Feed
from gateway.storage.postgres.probe import probe
from tests.cluster.logs import PostgresLogs
from tests.cluster.pooler import running_pooler
from tests.cluster.postgres import PostgresServer
from tests.cluster.tables import PostgresTables
from tests.fakes.made import record


@pytest.fixture
async def pooled_url(server: PostgresServer, database_url: str) -> AsyncIterator[str]:
    async with running_pooler(server.port) as port:
        yield database_url.replace(f":{server.port}/", f":{port}/")


async def test_a_log_and_its_feed_work_through_a_pooler(pooled_url: str) -> None:
    logs = [await PostgresLogs(pooled_url).open() for _ in range(3)]
    feed = Feed(pooled_url)
    await feed.open()
    following = feed.follow(0)
    reading = asyncio.ensure_future(anext(following))
    records = [record(f"text {number}", number) for number in range(60)]
    began = time.monotonic()
    await asyncio.gather(*(logs[number % 3].append([one]) for number, one in enumerate(records)))
    seen = [entry.record.id for entry in (await reading).entries]
    while len(seen) < len(records):
        seen += [entry.record.id for entry in (await anext(following)).entries]
    assert time.monotonic() - began < 10
    assert sorted(seen) == sorted(one.id for one in records)
    entries = await logs[0].waiting(100)
    logs[0].mark_stored(entries)
    await logs[0].mark_synced()
    assert await logs[1].unstored(10**9) == []
    await feed.close()
    for log in logs:
        await log.close()


async def test_tables_work_through_a_pooler(pooled_url: str) -> None:
    registry = PostgresTables(pooled_url).registry()
    await registry.open()
    await asyncio.gather(*(registry.put_item("acme", "settings", f"{n}", {"n": n}) for n in range(20)))
    for _ in range(10):  # a statement that is repeated is not prepared
        assert len(await registry.items("acme", "settings")) == 20
    await registry.close()


async def test_a_pooler_is_recognised(pooled_url: str) -> None:
    findings = await asyncio.to_thread(probe, pooled_url)
    assert any("a pooler in transaction mode seems to be between" in text for text in findings.advice)
