"""Counters that several gateways add to."""

import asyncio
import time

import pytest

from gateway.storage.postgres.counters import Addend, PostgresCounters


async def open_counters(url: str) -> PostgresCounters:
    counters = PostgresCounters(url)
    await counters.open()
    return counters


async def test_additions_of_several_gateways_are_summed(database_url: str) -> None:
    gateways = [await open_counters(database_url) for _ in range(3)]
    until = time.time() + 60
    for _ in range(5):  # in different orders: they must not wait for each other in a circle
        await asyncio.gather(
            gateways[0].add({"ada/minute": Addend(1, until), "bob/minute": Addend(2.5, until)}),
            gateways[1].add({"bob/minute": Addend(2.5, until), "ada/minute": Addend(1, until)}),
            gateways[2].add({"ada/minute": Addend(1, until)}),
        )
    assert await gateways[0].add({"ada/minute": Addend(0, until)}) == {"ada/minute": 15}
    assert await gateways[1].read("") == {"ada/minute": 15, "bob/minute": 25}
    assert await gateways[1].read("b") == {"bob/minute": 25}
    assert await gateways[1].read("%") == {}
    await gateways[2].drop("ada/")
    assert await gateways[1].read("") == {"bob/minute": 25}
    assert await gateways[0].add({}) == {}
    for gateway in gateways:
        await gateway.close()


async def test_a_counter_begins_again_after_its_end(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr("gateway.storage.postgres.counters.time.time", lambda: now)
    counters = await open_counters(database_url)
    await counters.add({"day": Addend(5, now + 10)})
    now += 5
    assert await counters.add({"day": Addend(2, now + 5)}) == {"day": 7}
    now += 6
    assert await counters.read("day") == {}
    assert await counters.add({"day": Addend(3, now + 10)}) == {"day": 3}
    await counters.close()
