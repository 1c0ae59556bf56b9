"""Fixtures: one server for all tests of a process, an empty database for each."""

from collections.abc import Iterator

import pytest

from tests.cluster.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database_url(server: PostgresServer) -> str:
    return server.create_database()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may crash or freeze."""
    with PostgresServer() as server:
        yield server
