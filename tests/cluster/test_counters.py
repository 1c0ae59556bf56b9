"""Counters that several gateways add to."""

import asyncio

from gateway.storage.counters import CounterAmount
from gateway.storage.postgres.counters import PostgresCounters

NOW = 1e9
LATER = NOW + 60


async def open_counters(url: str) -> PostgresCounters:
    counters = PostgresCounters(url)
    await counters.open()
    return counters


async def test_additions_of_several_gateways_are_summed(database_url: str) -> None:
    gateways = [await open_counters(database_url) for _ in range(3)]
    one, more = CounterAmount(1, LATER), CounterAmount(2.5, LATER)
    for _ in range(5):  # in different orders: they must not wait for each other in a circle
        await asyncio.gather(
            gateways[0].add({"ada/minute": one, "bob/minute": more}, NOW),
            gateways[1].add({"bob/minute": more, "ada/minute": one}, NOW),
            gateways[2].add({"ada/minute": one}, NOW),
        )
    assert await gateways[0].add({"ada/minute": CounterAmount(0, LATER)}, NOW) == {
        "ada/minute": CounterAmount(15, LATER)
    }
    assert await gateways[1].read(["ada/minute", "eve/minute"], NOW) == {"ada/minute": CounterAmount(15, LATER)}
    assert await gateways[0].add({}, NOW) == {}
    for gateway in gateways:
        await gateway.close()


async def test_a_counter_begins_again_after_its_end(database_url: str) -> None:
    counters = await open_counters(database_url)
    await counters.add({"day": CounterAmount(5, NOW + 10)}, NOW)
    assert await counters.add({"day": CounterAmount(2, NOW + 10)}, NOW + 5) == {"day": CounterAmount(7, NOW + 10)}
    assert await counters.read(["day"], NOW + 10) == {}
    assert await counters.newest(9, NOW + 10) == {}
    assert await counters.add({"day": CounterAmount(3, NOW + 20)}, NOW + 11) == {"day": CounterAmount(3, NOW + 20)}
    await counters.close()


async def test_the_newest_counters_are_those_that_expire_last(database_url: str) -> None:
    counters = await open_counters(database_url)
    await counters.add({"a": CounterAmount(1, NOW + 10), "b": CounterAmount(2, NOW + 30)}, NOW)
    assert await counters.newest(1, NOW) == {"b": CounterAmount(2, NOW + 30)}
    await counters.close()
