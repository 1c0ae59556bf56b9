"""A cluster that is upgraded one gateway after the other, while its users go on."""

from dataclasses import replace

import psycopg
import pytest

from tests.cluster.gateways.cluster import Cluster, said
from tests.cluster.gateways.group import FAILOVER, are_drained, running_group
from tests.cluster.gateways.load import Load, Route
from tests.cluster.gateways.newer import add_column, add_column_for_newer_gateways
from tests.conftest import Scale
from tests.fakes.process import command
from tests.fakes.running import eventually
from tests.fakes.upstream import pause


def read_version(cluster: Cluster) -> dict[str, int]:
    with psycopg.connect(cluster.database_url) as connection:
        rows = connection.execute(b"SELECT name, value FROM memory_gateway.meta WHERE name IN ('format', 'oldest')")
        return dict(rows.fetchall())


@pytest.mark.timeout(600)
async def test_a_rolling_upgrade_loses_nothing_and_no_chat_fails(cluster: Cluster, route: Route, scale: Scale) -> None:
    newer = replace(cluster, prepare=add_column)
    async with running_group(cluster) as group:
        load = Load(lambda: group.all, route)
        async with load.running():
            await pause(1)
            for versions in scale(1, 3) * [newer, cluster]:  # up, and back again
                for name in "abc":
                    assert await group.end(name) == 0
                    await group.start(name, versions)
                assert read_version(cluster) == {"format": 2, "oldest": 1}
                if not scale.is_long:
                    break
            await pause(1)
        assert load.failed_chats == {}
        assert load.refusals == {}
        assert load.chats > 20
        await eventually(lambda: are_drained(group), 3 * FAILOVER)
        for process in group.all:
            await load.check(process)


async def test_a_gateway_that_is_too_old_refuses_to_start_and_those_that_run_go_on(cluster: Cluster) -> None:
    async with running_group(cluster, "a") as group:
        (running,) = group.all
        await group.start("b", replace(cluster, prepare=add_column_for_newer_gateways))
        assert read_version(cluster) == {"format": 2, "oldest": 2}
        config = cluster.configuration("c")
        outcome = await command("serve", "--config", str(config.folder / "config.yaml"))
        assert outcome.returncode == 2
        assert "need a gateway of version 2 or later; this gateway has version 1: use a newer" in outcome.stderr
        load = Load(lambda: group.all)
        async with load.running():
            assert await said(running, "I go on.") == 200
            body = {"user_id": "ada", "conversation_id": "c", "query": "Hello?", "add_message_on_answer": True}
            assert (await running.post("/api/openmem/v1/chat", body))[0] == 200, "its table is opened only now"
            await eventually(lambda: load.count > 30 and load.chats > 10, 20)
        assert load.failed_chats == {}
        assert "replays" not in running.log()
        await eventually(lambda: are_drained(group), 3 * FAILOVER)
        for process in group.all:
            await load.check(process)
