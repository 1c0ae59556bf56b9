"""The unit tests of the SQL tables, on PostgreSQL."""

import pytest

from tests.cluster.logs import PostgresLogs
from tests.cluster.tables import PostgresTables
from tests.fakes.logs import Logs
from tests.fakes.tables import Tables
from tests.unit.storage.sql.test_blocks import *  # noqa: F403
from tests.unit.storage.sql.test_extraction_queue import *  # noqa: F403
from tests.unit.storage.sql.test_ledger import *  # noqa: F403
from tests.unit.storage.sql.test_owners import *  # noqa: F403
from tests.unit.storage.sql.test_record_log import *  # noqa: F403
from tests.unit.storage.sql.test_registry import *  # noqa: F403


@pytest.fixture
def tables(database_url: str) -> Tables:
    return PostgresTables(database_url)


@pytest.fixture
def logs(database_url: str) -> Logs:
    return PostgresLogs(database_url)
