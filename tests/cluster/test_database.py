"""The PostgreSQL twin of the SQLite `Database`: transactions, reconnection, limits, and errors in words."""

import asyncio
import time

import psycopg
import pytest

from gateway.storage.errors import StorageError
from gateway.storage.postgres import schema
from gateway.storage.postgres.connecting import connect
from gateway.storage.postgres.database import PostgresDatabase
from tests.cluster.postgres import PostgresServer
from tests.fakes.link import running_link
from tests.fakes.running import eventually
from tests.fakes.upstream import pause

PUT = "INSERT INTO items VALUES (?, ?, ?, ?, ?)"


def item(id_: str, value: bytes = b"1") -> tuple[str, str, str, float, bytes]:
    return "acme", "kind", id_, 1.0, value


async def open_database(url: str, limit: float = 5.0) -> PostgresDatabase:
    database = PostgresDatabase(url, "registry", limit=limit)
    assert await database.open()
    return database


async def ids(database: PostgresDatabase) -> list[str]:
    return [id_ for (id_,) in await database.read("SELECT id FROM items ORDER BY id")]


async def test_a_transaction_is_whole_or_nothing(database_url: str) -> None:
    database = await open_database(database_url)
    assert not await database.open(), "it is open"
    await database.write(PUT, [item("a"), item("b")])
    with pytest.raises(StorageError, match="refused a statement"):
        await database.write(PUT, [item("c"), item("a")])
    assert await ids(database) == ["a", "b"]

    def fail(_: object) -> None:
        raise ValueError("a fault of the caller")

    with pytest.raises(ValueError, match="a fault of the caller"):
        await database.run(lambda: database.transaction(fail))
    await database.write(PUT, [item("c")])
    assert await ids(database) == ["a", "b", "c"]
    await database.close()
    with pytest.raises(StorageError, match="the registry is closed"):
        await ids(database)


@pytest.mark.parametrize("text", ["a\0b", "\x01", "\x010\0\x01", "100% of ?", "' OR 1=1 --", "猫\U0001f408"])
async def test_every_text_comes_back_as_it_was(database_url: str, text: str) -> None:
    database = await open_database(database_url)
    await database.write(PUT, [item(text, text.encode()), item("other")])
    assert await database.read("SELECT id, value FROM items WHERE id=?", (text,)) == [(text, text.encode())]
    assert await database.read("SELECT id FROM items WHERE id = ANY (?::text[])", ([text, "more"],)) == [(text,)]
    await database.close()


async def test_an_error_names_neither_the_password_nor_a_text(database_url: str) -> None:
    database = await open_database(database_url)
    await database.write(PUT, [item("a secret of the user")])
    with pytest.raises(StorageError) as refused:
        await database.write(PUT, [item("a secret of the user")])
    assert refused.value.part == "registry"
    assert not refused.value.is_outage
    await database.close()
    nowhere = PostgresDatabase(database_url.replace("@127.0.0.1:", "@127.0.0.1:1"), "registry")
    with pytest.raises(StorageError, match="cannot be reached") as unreachable:
        await nowhere.open()
    assert unreachable.value.is_outage
    await nowhere.close()
    malformed = PostgresDatabase("postgresql://postgres:a-password-of-tests@[:x", "registry")
    with pytest.raises(StorageError) as unreadable:
        await malformed.open()
    await malformed.close()
    missing = PostgresDatabase(database_url + "-other", "registry")
    with pytest.raises(StorageError, match="there is no such database"):
        await missing.open()
    await missing.close()
    for caught in (refused, unreachable, unreadable):
        shown = f"{caught.value}{caught.value.__cause__}"
        assert "a-password-of-tests" not in shown
        assert "secret" not in shown
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


async def test_a_lost_connection_is_opened_again(own_server: PostgresServer) -> None:
    database = await open_database(own_server.create_database())
    await database.write(PUT, [item("a")])
    own_server.crash()
    with pytest.raises(StorageError, match="cannot be reached") as gone:
        await ids(database)
    assert gone.value.is_outage
    began = time.monotonic()
    with pytest.raises(StorageError):
        await ids(database)
    assert time.monotonic() - began < 0.2, "an outage costs the next call no time"
    own_server.start()
    limit = time.monotonic() + 30
    while True:
        try:
            assert await ids(database) == ["a"]
            break
        except StorageError:
            assert time.monotonic() < limit
            await pause(0.1)
    own_server.crash()
    own_server.start()
    assert await ids(database) == ["a"], "a call repeats what was not answered"
    await database.write(PUT, [item("b")])
    await database.close()


async def test_a_frozen_server_is_given_up_after_the_limit(own_server: PostgresServer) -> None:
    database = await open_database(own_server.create_database(), limit=0.5)
    await database.write(PUT, [item("a")])
    own_server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StorageError, match="does not answer"):
            await ids(database)
        for _ in range(3):
            with pytest.raises(StorageError):
                await ids(database)
        assert time.monotonic() - began < 10
    finally:
        own_server.thaw()
    limit = time.monotonic() + 30
    while True:
        try:
            assert await ids(database) == ["a"]
            break
        except StorageError:
            assert time.monotonic() < limit
    await database.close()


async def test_calls_do_not_wait_for_a_server_that_stays_silent(server: PostgresServer, database_url: str) -> None:
    async with running_link(server.port) as link:
        database = await open_database(database_url.replace(f":{server.port}/", f":{link.port}/"), limit=0.5)
        link.cut()
        limit = time.monotonic() + 5
        waited = list[float]()
        while time.monotonic() < limit:
            began = time.monotonic()
            outcomes = await asyncio.gather(*(ids(database) for _ in range(3)), return_exceptions=True)
            assert all(isinstance(outcome, StorageError) for outcome in outcomes)
            waited.append(time.monotonic() - began)
            await pause(0.05)
        assert max(waited) < 1.5, "one of them tries to connect"
        assert sum(seconds > 0.2 for seconds in waited) < len(waited) / 2, "most calls fail at once"
        link.join()
        await eventually(lambda: is_reachable(database), 10)
        await database.close()


async def is_reachable(database: PostgresDatabase) -> bool:
    try:
        return await ids(database) == []
    except StorageError:
        return False


async def test_transactions_that_meet_are_repeated(database_url: str) -> None:
    first, second = await open_database(database_url), await open_database(database_url)
    await first.write(PUT, [item("a", b"0"), item("b", b"0")])
    statement = "UPDATE items SET value=? WHERE id=?"
    for _ in range(5):  # in opposite orders: some of them wait for each other in a circle
        await asyncio.gather(
            first.write(statement, [(b"1", "a"), (b"1", "b")]), second.write(statement, [(b"2", "b"), (b"2", "a")])
        )
        rows = await first.read("SELECT DISTINCT value FROM items")
        assert len(rows) == 1
    await first.close()
    await second.close()


async def test_gateways_that_start_at_once_create_the_tables_once(database_url: str) -> None:
    databases = [PostgresDatabase(database_url, "registry") for _ in range(4)]
    assert await asyncio.gather(*(database.open() for database in databases)) == [True] * 4
    await asyncio.gather(*(database.close() for database in databases))


async def test_a_schema_is_upgraded_by_one_gateway_beside_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await open_database(database_url)
    await database.write(PUT, [item("a")])
    add_note = schema.SchemaMigration(script="ALTER TABLE {s}.items ADD COLUMN note TEXT;", oldest=1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_note))
    with connect(database_url) as first, connect(database_url) as second, connect(database_url) as running:
        with running.transaction():
            running.execute(b"SELECT * FROM memory_gateway.items")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                schema.prepare_schema(first, wait=0)
            upgrades = [
                asyncio.create_task(asyncio.to_thread(schema.prepare_schema, connection))
                for connection in (first, second)
            ]
            await asyncio.wait(upgrades, timeout=0.3)
            assert not any(upgrade.done() for upgrade in upgrades), "a transaction is in the way"
        await asyncio.gather(*upgrades)
        assert schema.read_version(first) == schema.SchemaVersion(2, 1)
    await database.write(PUT, [item("b")])  # of a gateway of the earlier version, which goes on
    assert await database.read("SELECT id, note FROM items ORDER BY id") == [("a", None), ("b", None)]
    await database.close()


async def test_an_earlier_version_leaves_a_later_schema_as_it_is(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = schema.MIGRATIONS
    add_note = schema.SchemaMigration(script="ALTER TABLE {s}.items ADD COLUMN note TEXT;", oldest=2)
    monkeypatch.setattr(schema, "MIGRATIONS", (*earlier, add_note))
    database = await open_database(database_url)
    monkeypatch.setattr(schema, "MIGRATIONS", earlier)
    late = await open_database(database_url)  # by a gateway that ran before the upgrade
    await late.write(PUT, [item("a")])
    with connect(database_url) as connection:
        assert schema.read_version(connection) == schema.SchemaVersion(2, 2)
    await late.close()
    await database.close()
