"""What is found to be wrong with a database, in words."""

import psycopg
import pytest

from gateway.storage.postgres.probe import Findings, find_obstacles, probe
from tests.cluster.postgres import PostgresServer
from tests.cluster.tables import PostgresTables

FSYNC = "fsync is off: a power cut can lose or damage everything; turn it on"  # the server of the tests
ACCEPTED = Findings([], [FSYNC])


async def test_a_good_database_is_accepted_before_and_after_the_tables_are_there(database_url: str) -> None:
    assert probe(database_url) == ACCEPTED
    blocks = PostgresTables(database_url).blocks()
    await blocks.open()
    assert probe(database_url) == ACCEPTED
    assert find_obstacles(database_url) == []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"UPDATE memory_gateway.meta SET value=9 WHERE name='format'")
        assert probe(database_url) == ACCEPTED, "gateways of version 1 may be started"
        connection.execute(b"UPDATE memory_gateway.meta SET value=8 WHERE name='oldest'")
    refusal = "version 9 of the tables, which need a gateway of version 8 or later; this gateway has version 1"
    (problem,) = probe(database_url).obstacles
    assert refusal in problem
    assert find_obstacles(database_url) == [problem]
    await blocks.close()


async def test_settings_that_lose_data_or_lack_room_are_named(server: PostgresServer) -> None:
    url = server.create_database("ENCODING 'SQL_ASCII' TEMPLATE template0")
    name = url.rpartition("/")[2]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit='off'".encode())
    findings = probe(url)
    assert any("synchronous_commit is off" in text for text in findings.advice)
    assert any("the database's encoding is SQL_ASCII" in text for text in findings.obstacles)


async def test_rights_that_are_missing_are_named(server: PostgresServer, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE USER guest_{name}".encode())
    guest = database_url.replace("postgres:a-password-of-tests", f"guest_{name}")
    assert any("may not create the schema memory_gateway" in text for text in probe(guest).obstacles)
    blocks = PostgresTables(database_url).blocks()
    await blocks.open()
    assert any("may not use the schema memory_gateway" in text for text in probe(guest).obstacles)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA memory_gateway TO guest_{name}".encode())
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA memory_gateway TO guest_{name}".encode())
    assert any("may not read and write the tables" in text for text in probe(guest).obstacles)
    await blocks.close()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("postgresql://nobody:a-secret@127.0.0.1:1/x", "cannot be reached"),
        ("postgresql://nobody:a-secret@[:x", "cannot be read"),
        ("mysql://nobody:a-secret@127.0.0.1/x", "cannot be read"),
    ],
)
def test_an_address_that_leads_nowhere_is_named_without_its_password(address: str, problem: str) -> None:
    findings = probe(address)
    (obstacle,) = findings.obstacles
    assert problem in obstacle
    assert "a-secret" not in obstacle
    assert findings.advice == ()
