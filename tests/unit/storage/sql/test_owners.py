import pytest

from gateway.storage.sql import owners
from gateway.storage.sql.owners import SqlOwners
from gateway.storage.values import Owner
from tests.fakes.tables import Tables

ADA, BOB = Owner("acme", "ada", "u", "s"), Owner("acme", "bob", "u", None)


async def open_owners(tables: Tables) -> SqlOwners:
    store = tables.owners()
    await store.open()
    return store


async def written(tables: Tables, id_: str, owner: Owner) -> None:
    """Write an owner, as another process would."""
    other = await open_owners(tables)
    other.put(id_, owner)
    await other.close()


async def test_an_owner_is_found_by_other_processes_and_replaced(tables: Tables) -> None:
    await written(tables, "r1", ADA)
    await written(tables, "r1", BOB)
    store = await open_owners(tables)
    assert await store.get("r1") == BOB
    assert await store.get("r2") is None
    await written(tables, "r1", ADA)
    assert await store.get("r1") == BOB, "read before"
    store.forget_cached()
    assert await store.get("r1") == ADA
    await store.close()


async def test_the_owners_of_a_user_or_of_all_are_forgotten(tables: Tables) -> None:
    store = await open_owners(tables)
    for id_, owner in {
        "r1": ADA,
        "r2": BOB,
        "r3": Owner("rival", "ada", "u", None),
        "r4": Owner("acme", None, "u", None),
    }.items():
        store.put(id_, owner)
    await store.forget("acme", "ada")
    other = await open_owners(tables)
    assert [await other.get(id_) is None for id_ in ("r1", "r2", "r3", "r4")] == [True, False, False, False]
    await store.forget(None, None)
    other.forget_cached()
    assert await other.get("r2") is None
    await other.close()
    await store.close()


async def test_old_owners_are_swept(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr(owners, "_WRITES_BETWEEN_SWEEPS", 1)
    monkeypatch.setattr(owners, "_MAX_ROWS", 2)
    monkeypatch.setattr("gateway.storage.sql.owners.time.time", lambda: now)
    for number in range(4):
        now += 1
        await written(tables, f"r{number}", ADA)
    store = await open_owners(tables)
    assert [await store.get(f"r{number}") is None for number in range(4)] == [True, False, False, False]
    now += 86_400 * 61
    await written(tables, "r9", BOB)
    store.forget_cached()
    assert await store.get("r3") is None
    await store.close()
