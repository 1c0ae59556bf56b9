import asyncio
from typing import Any

import pytest

from gateway.storage.sql.ledger import SqlLedger
from gateway.storage.values import DIMENSIONS, UsageRow
from tests.fakes.tables import Tables

FOREVER: dict[str, Any] = {"since": 0.0, "until": 1e11, "only": {}}


async def open_ledger(tables: Tables) -> SqlLedger:
    ledger = tables.ledger()
    await ledger.open()
    return ledger


def note(ledger: SqlLedger, user: str, tokens: int, model: str = "m", tenant: str = "acme") -> None:
    used = UsageRow(1, tokens, 0, tokens, 0, 0.25, 1)
    ledger.note(used, tenant=tenant, key="k", user=user, model=model, upstream="u")


async def test_counts_of_several_processes_are_added(tables: Tables) -> None:
    first, second = await open_ledger(tables), await open_ledger(tables)
    for ledger in (first, second):
        for user in ("ada", "bob", "ada"):
            note(ledger, user, 10)
    await asyncio.gather(first.flush(), second.flush())
    rows = await first.read(["user", "key"], tenant="acme", **FOREVER)
    assert [(row["user"], row["key"], row["requests"], row["cost"]) for row in rows] == [
        ("ada", "k", 4, 1.0),
        ("bob", "k", 2, 0.5),
    ]
    assert all(type(row["prompt_tokens"]) is int for row in rows)
    (total,) = await second.read([], tenant=None, **FOREVER)
    assert (total["requests"], total["completion_tokens"]) == (6, 60)
    assert await second.read([], tenant="rival", **FOREVER) == []
    await first.close()
    await second.close()


async def test_a_forgotten_user_is_counted_without_a_name(tables: Tables) -> None:
    ledger = await open_ledger(tables)
    for user, tenant in (("ada", "acme"), ("bob", "acme"), ("", "acme"), ("ada", "rival")):
        note(ledger, user, 10, tenant=tenant)
    await ledger.forget("acme", "ada")
    rows = await ledger.read(DIMENSIONS, tenant="acme", **FOREVER)
    assert sorted((row["user"], row["requests"]) for row in rows) == [("", 2), ("bob", 1)]
    await ledger.forget(None, None)
    rows = await ledger.read(["user"], tenant=None, **FOREVER)
    assert [(row["user"], row["requests"]) for row in rows] == [("", 4)]
    await ledger.close()


async def test_a_very_long_name_of_a_model_is_counted(tables: Tables) -> None:
    ledger = await open_ledger(tables)
    long = "".join(chr(0x10000 + 7919 * number % 60_000) for number in range(5000))
    note(ledger, "ada", 10, model=long)
    (row,) = await ledger.read(["model"], tenant="acme", **FOREVER)
    assert long.startswith(row["model"])
    await ledger.close()


async def test_an_unknown_dimension_is_refused(tables: Tables) -> None:
    ledger = await open_ledger(tables)
    with pytest.raises(ValueError, match="there is no 'hour; DROP'"):
        await ledger.read(["hour; DROP"], tenant="acme", **FOREVER)
    await ledger.close()
