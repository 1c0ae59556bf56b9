import pytest

from gateway.storage.values import KeptBlock
from tests.fakes.tables import Tables

SCOPE = "a" * 64


async def test_blocks_come_back_by_conversation_until_they_are_dropped(tables: Tables) -> None:
    blocks = tables.blocks()
    await blocks.open()
    first, second = KeptBlock("one\0 猫", 3, {"m": 1}), KeptBlock("two", 4, {"m": 2, "n": 1})
    await blocks.put(SCOPE, "s", "t1", KeptBlock("earlier", 1, {}))
    await blocks.put(SCOPE, "s", "t1", first)
    await blocks.put(SCOPE, "s", "t2", second)
    await blocks.put(SCOPE, "other", "t1", second)
    assert await blocks.of(SCOPE, "s") == {"t1": first, "t2": second}
    assert list(await blocks.of(SCOPE, "s")) == ["t1", "t2"]
    assert await blocks.of("b" * 64, "s") == {}
    await blocks.drop(SCOPE, "s", ["t1", "unknown"])
    assert await blocks.of(SCOPE, "s") == {"t2": second}
    await blocks.purge([SCOPE])
    assert await blocks.of(SCOPE, "other") == {}
    await blocks.close()


async def test_blocks_end_after_a_day(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr("gateway.storage.sql.blocks.time.time", lambda: now)
    blocks = tables.blocks()
    await blocks.open()
    await blocks.put(SCOPE, "s", "old", KeptBlock("old", 1, {}))
    now += 86_401
    assert await blocks.of(SCOPE, "s") == {}
    await blocks.put(SCOPE, "s", "new", KeptBlock("new", 1, {}))
    now -= 86_401
    assert list(await blocks.of(SCOPE, "s")) == ["new"], "the old one was swept"
    await blocks.close()
