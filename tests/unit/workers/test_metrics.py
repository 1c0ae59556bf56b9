"""Tests of the metrics of all workers on one page."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import Telemetry
from gateway.workers.metrics import GAUGES, SharedMetrics
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from tests.fakes.running import eventually


class Worker:
    """The metrics of a worker."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.telemetry = Telemetry()
        self.shared = SharedMetrics(self.telemetry, peers)

    async def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of a name on the page, by the values of their labels."""
        page = (await self.shared.exposition()).decode()
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name
        }


class Sockets:
    def __init__(self, folder: str) -> None:
        self.path = str(Path(folder) / "bus")
        self.owner = OwnerPeers(3, self.path, serving=lambda: (1, 2), end=lambda _: None)

    async def follower(self, number: int) -> Worker:
        worker = Worker(FollowerPeers(number, 3, self.path))
        await worker.peers.start()
        await eventually(lambda: number in self.owner.others)
        return worker


@asynccontextmanager
async def workers() -> AsyncIterator[tuple[Sockets, list[Worker]]]:
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        sockets = Sockets(folder)
        owner = Worker(sockets.owner)
        await owner.peers.start()
        members = [owner, await sockets.follower(1), await sockets.follower(2)]
        try:
            yield sockets, members
        finally:
            for member in members[::-1]:
                await member.peers.stop()


def test_every_gauge_has_a_rule() -> None:
    gauges = [metric for metric in vars(Telemetry()).values() if isinstance(metric, Gauge)]
    assert {family.name for gauge in gauges for family in gauge.describe()} == GAUGES.keys()


async def test_counters_and_histograms_are_sums() -> None:
    async with workers() as (_, members):
        for number, member in enumerate(members, 1):
            member.telemetry.requests.labels("openai", "200").inc(number)
            member.telemetry.duration.labels("openai").observe(0.002 * number)
        members[1].telemetry.requests.labels("openai", "503").inc()
        assert await members[0].samples("gateway_requests_total") == {("openai", "200"): 6, ("openai", "503"): 1}
        assert await members[0].samples("gateway_request_duration_seconds_count") == {("openai",): 3}
        buckets = await members[0].samples("gateway_request_duration_seconds_bucket")
        counts = {le: count for (_, le), count in buckets.items()}
        assert [counts[le] for le in ("0.001", "0.0025", "0.005", "0.01", "+Inf")] == [0, 1, 2, 3, 3]
        assert list(counts)[-1] == "+Inf"


async def test_gauges_are_combined_by_what_they_mean() -> None:
    async with workers() as (_, members):
        for number, member in enumerate(members, 1):
            telemetry = member.telemetry
            telemetry.upstream_open.labels("up").set(number == 2)
            telemetry.memory_ready.set(number != 3)
            telemetry.in_flight.set(number)
            telemetry.working_set_bytes.set(100)
            telemetry.backlog.set(10 * number)
        owner = members[0]
        assert await owner.samples("gateway_upstream_open") == {("up",): 1}
        assert await owner.samples("gateway_memory_ready") == {(): 0}
        assert await owner.samples("gateway_in_flight_requests") == {(): 6}
        assert await owner.samples("gateway_working_set_bytes") == {(): 300}
        assert await owner.samples("gateway_journal_backlog_entries") == {(): 10}
        assert await owner.samples("gateway_workers") == {(): 3}


async def test_counters_never_fall_when_a_worker_is_restarted_or_silent() -> None:
    async with workers() as (sockets, members):
        owner, ended = members[0], members.pop(2)
        for member in (*members, ended):
            member.telemetry.requests.labels("openai", "200").inc(5)
            member.telemetry.in_flight.set(1)
        assert await owner.samples("gateway_requests_total") == {("openai", "200"): 15}
        await ended.peers.stop()
        await eventually(lambda: 2 not in sockets.owner.others)
        assert await owner.samples("gateway_requests_total") == {("openai", "200"): 15}
        assert await owner.samples("gateway_in_flight_requests") == {(): 2}
        assert await owner.samples("gateway_silent_workers") == {(): 1}
        successor = await sockets.follower(2)
        members.append(successor)
        assert await owner.samples("gateway_requests_total") == {("openai", "200"): 15}
        successor.telemetry.requests.labels("openai", "200").inc(2)
        assert await owner.samples("gateway_requests_total") == {("openai", "200"): 17}
        assert await owner.samples("gateway_silent_workers") == {(): 0}


async def test_a_single_process_and_another_worker_show_their_own() -> None:
    alone = Worker(Peers())
    alone.telemetry.requests.labels("openai", "200").inc()
    assert await alone.samples("gateway_requests_total") == {("openai", "200"): 1}
    assert await alone.samples("gateway_workers") == {(): 1}
    async with workers() as (_, members):
        members[1].telemetry.requests.labels("openai", "200").inc()
        assert await members[1].samples("gateway_requests_total") == {("openai", "200"): 1}
        assert await members[2].samples("gateway_requests_total") == {}
