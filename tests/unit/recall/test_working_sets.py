import asyncio
from typing import Any

import pytest

from gateway.recall.working_sets import WorkingSets
from gateway.store.catalog import Made
from gateway.store.loaded import Loaded, Row
from gateway.store.memories import StoreFailed
from gateway.store.schema import to_arrow
from gateway.telemetry import Telemetry
from gateway.turn import Scope
from tests.fakes.made import SCOPE
from tests.unit.recall.test_working_set import row


class Store:
    def __init__(self) -> None:
        self.rows: list[Row] = [row("stored fact", 1)]
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    def made_of(self, scope: str) -> Made:
        return Made("e", 4, 2)

    async def load(self, scope: Scope, limit: int) -> Loaded:
        self.loads += 1
        await self.gate.wait()
        if self.fails:
            raise StoreFailed("no")
        return Loaded([to_arrow(self.rows, 4)], None, limit)


def sets(store: Store, **limits: int) -> WorkingSets:
    options: dict[str, Any] = {"max_rows": 100, "max_bytes": 10**9, **limits}
    return WorkingSets(store, Telemetry(), **options)  # type: ignore[arg-type]  # a store of this test's own


async def test_a_set_is_loaded_once_for_all_who_ask() -> None:
    store = Store()
    made = sets(store)
    one, other = await asyncio.gather(made.get(SCOPE), made.get(SCOPE))
    assert one is other
    assert (await made.get(SCOPE)) is one
    assert store.loads == 1
    await made.stop()


async def test_rows_written_while_it_loads_are_not_missed() -> None:
    store = Store()
    store.gate.clear()
    made = sets(store)
    loading = asyncio.create_task(made.get(SCOPE))
    await asyncio.sleep(0)
    await made.apply([row("written meanwhile", 2)])
    store.gate.set()
    assert len(await loading) == 2
    await made.stop()


async def test_a_failed_load_is_tried_again() -> None:
    store = Store()
    store.fails = True
    made = sets(store)
    with pytest.raises(StoreFailed):
        await made.get(SCOPE)
    store.fails = False
    assert len(await made.get(SCOPE)) == 1
    await made.stop()


async def test_a_load_goes_on_when_its_caller_gives_up() -> None:
    store = Store()
    store.gate.clear()
    made = sets(store)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.get(SCOPE), 0.01)
    store.gate.set()
    assert len(await made.get(SCOPE)) == 1
    assert store.loads == 1
    await made.stop()


async def test_the_least_recently_used_leaves_first() -> None:
    store = Store()
    made = sets(store, max_bytes=1)
    await made.get(SCOPE)
    await made.get(Scope("b" * 64, "default", "bob"))
    await made.get(SCOPE)
    assert store.loads == 3
    await made.stop()
