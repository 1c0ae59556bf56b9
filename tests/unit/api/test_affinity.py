from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.api.affinity import Affinity
from gateway.errors import NotFound
from gateway.storage.errors import StorageError
from gateway.storage.sql import owners
from gateway.storage.sqlite.owners import SqliteOwners
from gateway.storage.values import Owner
from gateway.turn import Principal, Right

CHAT = frozenset({Right.CHAT})
APP, OTHER = Principal("acme", CHAT), Principal("umbra", CHAT)
PINNED = Principal("acme", CHAT, "ada")
ADA = Owner("acme", "ada", "one", "s")
NAMES = ["one", "two"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteOwners]:
    made = SqliteOwners(tmp_path / "responses.sqlite")
    await made.open()
    yield made
    await made.close()


async def test_an_owner_sees_what_is_theirs_and_nobody_else_does(store: SqliteOwners) -> None:
    affinity = Affinity(store)
    affinity.put("r", ADA)
    assert await affinity.get(APP, "r", None, NAMES) == ADA, "a key that names nobody acts for all of its tenant"
    assert await affinity.get(APP, "r", "ada", NAMES) == ADA
    assert await affinity.get(PINNED, "r", "bob", NAMES) == ADA, "the key says who asks"
    for principal, user in ((APP, "bob"), (OTHER, None), (OTHER, "ada"), (Principal("acme", CHAT, "bob"), "ada")):
        with pytest.raises(NotFound):
            await affinity.get(principal, "r", user, NAMES)
    with pytest.raises(NotFound):
        await affinity.get(APP, "r", None, ["two"])  # another upstream does not keep it


async def test_an_unknown_id_is_for_those_who_may_reach_the_account(store: SqliteOwners) -> None:
    affinity = Affinity(store)
    with pytest.raises(NotFound):
        await affinity.get(APP, "r", None, NAMES)
    assert await affinity.get(APP, "r", None, NAMES, is_own_account=True) is None
    assert await affinity.get(Principal("acme", frozenset(Right)), "r", None, NAMES) is None
    for nothing in (None, "", 7, {"id": "r"}):
        assert await affinity.get(APP, nothing, None, NAMES) is None


async def test_owners_outlast_a_restart_and_go_when_their_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteOwners(tmp_path / "responses.sqlite")
    await store.open()
    monkeypatch.setattr(owners, "_WRITES_BETWEEN_SWEEPS", 1)
    monkeypatch.setattr(owners, "_MAX_ROWS", 3)
    for number in range(6):
        monkeypatch.setattr("gateway.storage.sql.owners.time.time", lambda number=number: 1e9 + number)
        store = SqliteOwners(tmp_path / "responses.sqlite")
        await store.open()
        store.put(f"r{number}", ADA)
        await store.close()  # when it is written
    again = SqliteOwners(tmp_path / "responses.sqlite")
    await again.open()
    assert [await again.get(f"r{number}") is not None for number in range(6)] == [False, False, True, True, True, True]
    await again.forget("acme", "ada")
    assert await again.get("r5") is None
    await again.close()


async def test_without_a_file_owners_are_known_in_this_process(tmp_path: Path) -> None:
    store = SqliteOwners(tmp_path)  # a folder: it cannot be opened
    with pytest.raises(StorageError):
        await store.open()
    store.put("r", ADA)
    assert await store.get("r") == ADA
