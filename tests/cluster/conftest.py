"""Fixtures: one server for all tests of a process, an empty database for each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.storage.postgres.database import PostgresDatabase
from tests.cluster.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database_url(server: PostgresServer) -> str:
    return server.create_database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(database_url, "database")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may crash or freeze."""
    with PostgresServer() as server:
        yield server
