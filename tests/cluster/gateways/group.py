"""Gateways in processes of their own, which tests start, kill and start again."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.cluster.gateways.cluster import Cluster
from tests.conftest import Scale
from tests.fakes.process import Process, stopped
from tests.fakes.upstream import pause

__all__ = ["FAILOVER", "Group", "are_drained", "require_long", "running_group"]

FAILOVER = 10  # seconds
_FLUSH: dict[str, Any] = {"memory__store": {"flush_seconds": 1}}


class Group:
    """Gateways by name."""

    def __init__(self, cluster: Cluster, stack: AsyncExitStack) -> None:
        self._cluster = cluster
        self._stack = stack
        self._processes: dict[str, Process] = {}

    @property
    def all(self) -> list[Process]:
        return list(self._processes.values())

    async def start(self, name: str, cluster: Cluster | None = None) -> Process:
        """Start a gateway; `cluster`: how it reaches the engines, if not as the others do."""
        cluster = self._cluster if cluster is None else cluster
        process = await self._stack.enter_async_context(cluster.process(name, **_FLUSH))
        self._processes[name] = process
        return process

    async def end(self, name: str) -> int | None:
        """Take a gateway out of the balancer, and ask it to stop. Returns its exit status."""
        process = self._processes.pop(name)
        await pause(0.3)  # until a balancer sends it nothing more
        return await process.terminate(30)

    async def kill(self, name: str) -> None:
        await stopped(self._processes.pop(name).process)


@asynccontextmanager
async def running_group(cluster: Cluster, names: str = "abc") -> AsyncIterator[Group]:
    """A group with a gateway for each letter."""
    async with AsyncExitStack() as stack:
        group = Group(cluster, stack)
        for name in names:
            await group.start(name)
        yield group


async def are_drained(group: Group) -> bool:
    """True if all that the gateways have acknowledged is stored."""
    backlogs = [(await process.state())["journal_backlog"] for process in group.all]
    return not any(backlogs)


def require_long(scale: Scale) -> None:
    """Skip a case that `make test-long` runs."""
    if not scale.is_long:
        pytest.skip("takes minutes: run with --long")
