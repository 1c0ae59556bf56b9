"""The isolation of tenants and users, where each request goes to another gateway of a cluster."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.gateways.balanced import Balanced
from tests.cluster.gateways.cluster import Cluster
from tests.flow.test_memory_isolation import *  # noqa: F403


@pytest.fixture
async def gateway(cluster: Cluster, changes: dict[str, Any]) -> AsyncIterator[Balanced]:
    async with cluster.running(2, **changes) as gateways:
        yield Balanced(gateways)
