"""Three gateways in processes of their own, while something fails: nothing acknowledged is lost, nothing is doubled."""

import asyncio
import os
import random
import signal
import time
from dataclasses import replace

import pytest

from tests.cluster.gateways.cluster import LEASE_SECONDS, Cluster, said
from tests.cluster.gateways.group import FAILOVER, are_drained, running_group
from tests.cluster.gateways.load import Load, Route
from tests.cluster.postgres import PostgresServer
from tests.conftest import Scale
from tests.fakes.running import eventually
from tests.fakes.s3_proxy import Fault, FaultyS3
from tests.fakes.upstream import pause


@pytest.mark.timeout(3600)
async def test_nothing_is_lost_or_doubled_by_kill_9(cluster: Cluster, route: Route, scale: Scale) -> None:
    chosen = random.Random(scale.seed)
    async with running_group(cluster) as group:
        load = Load(lambda: group.all, route)
        async with load.running():
            for _ in range(scale(5, 100)):
                await pause(0.5 + chosen.random())
                name = chosen.choice("abc")
                await group.kill(name)
                await pause(chosen.random())
                await group.start(name)
        await eventually(lambda: are_drained(group), FAILOVER + LEASE_SECONDS)
        assert load.count > 100, load.refusals
        for process in group.all:
            await load.check(process)


async def test_the_buckets_of_a_killed_gateway_are_taken_over_in_time(cluster: Cluster, route: Route) -> None:
    async with running_group(cluster) as group:
        load = Load(lambda: group.all, route)
        async with load.running():
            await pause(2)
            await group.kill("a")
        began = time.monotonic()

        async def are_taken_over() -> bool:
            states = [(await process.state())["cluster"] for process in group.all]
            owned = [state["owned_buckets"] for state in states]
            return bool(sum(owned) == states[0]["buckets"])

        await eventually(are_taken_over, FAILOVER + 5)
        await eventually(lambda: are_drained(group), FAILOVER + 5)
        assert time.monotonic() - began < FAILOVER + 5, "with a margin: others use this machine"
        await load.check(group.all[0])


async def test_an_owner_that_was_frozen_past_its_lease_changes_nothing(cluster: Cluster, route: Route) -> None:
    async with running_group(cluster) as group:
        frozen, *others = group.all
        load = Load(lambda: others, route)
        async with load.running():
            await pause(1)
            os.kill(frozen.pid, signal.SIGSTOP)
            try:
                await pause(LEASE_SECONDS + 3)
            finally:
                os.kill(frozen.pid, signal.SIGCONT)
            await pause(1)
        await eventually(lambda: are_drained(group), FAILOVER + 5)
        for process in group.all:
            await load.check(process)


@pytest.mark.timeout(300)
async def test_a_crash_of_the_database_loses_nothing(
    cluster: Cluster, own_server: PostgresServer, route: Route, scale: Scale
) -> None:
    async with running_group(replace(cluster, database_url=own_server.create_database())) as group:
        load = Load(lambda: group.all, route)
        async with load.running():
            for seconds in (0, scale(0, 30)):
                await pause(1)
                await asyncio.to_thread(own_server.crash)
                assert await said(group.all[0], "Do you hear me?") == 200, "chats go on"
                await pause(seconds)
                await asyncio.to_thread(own_server.start)
                before = load.count
                await eventually(lambda before=before: load.count > before + 20, FAILOVER)  # type: ignore[misc]
        assert load.failed_chats == {}
        await eventually(lambda: are_drained(group), 30)
        for process in group.all:
            await load.check(process)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["503", "hang", "gone"])
async def test_an_outage_of_s3_loses_nothing(
    cluster: Cluster, s3: FaultyS3, fault: Fault, route: Route, scale: Scale
) -> None:
    async with running_group(cluster) as group:
        load = Load(lambda: group.all, route)
        async with load.running():
            await pause(1.5)
            s3.fault = fault
            before = load.count
            await pause(scale(10, 60))
            assert load.count > before + 20, load.refusals
            assert await said(group.all[0], "Do you hear me?") == 200, "chats go on"
            s3.fault = ""
        assert load.failed_chats == {}
        await eventually(lambda: are_drained(group), 75)  # a write that hangs is given up, and pauses grow
        for process in group.all:
            await load.check(process)
