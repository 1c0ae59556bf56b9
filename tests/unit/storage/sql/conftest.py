"""The engine that the tests of this folder run on; tests/cluster runs the same tests on PostgreSQL."""

from pathlib import Path

import pytest

from tests.fakes.logs import Logs, SqliteLogs
from tests.fakes.tables import SqliteTables, Tables


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return SqliteTables(tmp_path)


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return SqliteLogs(tmp_path)
