import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.storage.counters import CounterAmount, Counters
from gateway.storage.sqlite.counters import SqliteCounters


async def test_sums_are_added_to_and_end(tmp_path: Path) -> None:
    counters: Counters = SqliteCounters(tmp_path / "counters.sqlite")
    await counters.open()
    amounts = {"a": CounterAmount(1, 160), "b": CounterAmount(0.5, 200)}
    assert await counters.add(amounts, 100) == amounts
    assert await counters.add({"a": CounterAmount(2, 160)}, 110) == {"a": CounterAmount(3, 160)}
    assert await counters.read(["a", "b", "c"], 110) == {"a": CounterAmount(3, 160), "b": CounterAmount(0.5, 200)}
    assert await counters.read(["a", "b"], 160) == {"b": CounterAmount(0.5, 200)}
    assert await counters.newest(1, 110) == {"b": CounterAmount(0.5, 200)}
    assert await counters.add({"a": CounterAmount(4, 220)}, 170) == {"a": CounterAmount(4, 220)}
    await counters.close()


async def test_expired_sums_are_deleted(tmp_path: Path) -> None:
    counters = SqliteCounters(tmp_path / "counters.sqlite")
    await counters.open()
    await counters.add({"old": CounterAmount(1, 160)}, 100)
    await counters.add({"new": CounterAmount(1, 400)}, 200)
    with closing(sqlite3.connect(tmp_path / "counters.sqlite")) as reader:
        assert reader.execute("SELECT name FROM counters").fetchall() == [("new",)]
    await counters.close()


async def test_many_names_are_read_at_once(tmp_path: Path) -> None:
    counters = SqliteCounters(tmp_path / "counters.sqlite")
    await counters.open()
    amounts = {f"name {number}": CounterAmount(number, 200) for number in range(1_234)}
    await counters.add(amounts, 100)
    assert await counters.read(list(amounts), 100) == amounts
    await counters.close()


async def test_two_connections_add_to_the_same_sum(tmp_path: Path) -> None:
    pair = [SqliteCounters(tmp_path / "counters.sqlite") for _ in range(2)]
    for counters in pair:
        await counters.open()
    for _ in range(50):
        await asyncio.gather(*(counters.add({"a": CounterAmount(1, 200)}, 100) for counters in pair))
    assert await pair[0].read(["a"], 100) == {"a": CounterAmount(100, 200)}
    for counters in pair:
        await counters.close()
