"""The metrics of all workers on one page, which the owner of the store serves."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.telemetry import Telemetry
from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["GAUGES", "Combination", "SharedMetrics"]

_TIMEOUT: Final = 1.0  # seconds


class Combination(Enum):
    """How the values of a gauge become one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    OWNER = "owner"
    """The value of the owner of the store."""


GAUGES: Final[Mapping[str, Combination]] = {
    "gateway_workers": Combination.OWNER,  # it knows who answered
    "gateway_silent_workers": Combination.OWNER,
    "gateway_upstream_open": Combination.MAX,  # some chats do not reach the upstream
    "gateway_in_flight_requests": Combination.SUM,
    "gateway_cluster_log_lag_seconds": Combination.MAX,
    "gateway_cluster_owned_buckets": Combination.SUM,
    "gateway_journal_backlog_entries": Combination.OWNER,  # it stores the entries of all
    "gateway_journal_aside_entries": Combination.OWNER,
    "gateway_memory_ready": Combination.MIN,  # some chats go on without memory
    "gateway_working_sets": Combination.SUM,  # each copy needs RAM
    "gateway_working_set_bytes": Combination.SUM,
    "gateway_learning_waiting_conversations": Combination.OWNER,  # it alone extracts
    "gateway_learning_aside_conversations": Combination.OWNER,
}
"""All gauges."""

_Key = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample and its labels."""


@dataclass(frozen=True, slots=True)
class _Report:
    """The metrics of a process. `process` distinguishes it from the one that had the worker's number before."""

    process: str
    families: Sequence[Metric]


class SharedMetrics(Collector):
    """The page of metrics. Construct it before the peers start.

    Sums of counters never fall: the counts of a worker that ended, or does not answer, are added as they were when it
    last answered. Else Prometheus would take the missing part for a restart, and count the rest twice.
    """

    def __init__(self, telemetry: Telemetry, peers: Peers) -> None:
        self._telemetry = telemetry
        self._peers = peers
        self._process = os.urandom(8).hex()
        self._latest: dict[int, _Report] = {}
        self._ended: dict[_Key, float] = {}
        self._families: Iterable[Metric] = ()
        peers.on(message_kinds.METRICS, self._report)

    async def exposition(self) -> bytes:
        """The metrics in the Prometheus text format, of all workers in the owner of the store."""
        if not self._peers.is_shared or not self._peers.is_owner:
            return self._telemetry.exposition()
        replies: dict[int, _Report] = await self._peers.ask_all(message_kinds.METRICS, None, _TIMEOUT)
        for number, report in replies.items():
            earlier = self._latest.get(number)
            if earlier is not None and earlier.process != report.process:
                _add_counts(self._ended, earlier.families)
            self._latest[number] = report
        self._telemetry.workers.set(1 + len(replies))
        self._telemetry.silent_workers.set(self._peers.count - 1 - len(replies))
        own = self._report(None)
        silent = [report.families for number, report in self._latest.items() if number not in replies]
        self._families = _merge([own.families, *(report.families for report in replies.values())], silent, self._ended)
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """The families of the page."""
        return self._families

    def _report(self, _: None) -> _Report:
        return _Report(self._process, list(self._telemetry.registry.collect()))


def _merge(
    pages: Sequence[Sequence[Metric]], silent: Sequence[Sequence[Metric]], ended: Mapping[_Key, float]
) -> list[Metric]:
    """One page of several, of which the first is the owner's. `silent`: pages whose counters alone are used; `ended`:
    counts of processes that ended."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for number, page in enumerate((*pages, *silent)):
        for family in page:
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            samples = values.setdefault(family.name, {})
            rule = GAUGES.get(family.name, Combination.MAX) if family.type == "gauge" else Combination.SUM
            is_left_out = number >= len(pages) or (rule is Combination.OWNER and number > 0)
            if family.type == "gauge" and is_left_out:
                continue
            for key, value in _samples(family):
                samples[key] = _combine(rule, samples.get(key), value)
    for key, count in ended.items():
        samples = values[_family_name(key[0])]
        samples[key] = samples.get(key, 0.0) + count
    for name, samples in values.items():
        for (sample_name, labels), value in samples.items():
            families[name].add_sample(sample_name, dict(labels), value)
    return list(families.values())


def _samples(family: Metric) -> Iterable[tuple[_Key, float]]:
    return (((sample.name, tuple(sorted(sample.labels.items()))), sample.value) for sample in family.samples)


def _combine(rule: Combination, earlier: float | None, value: float) -> float:
    if earlier is None:
        return value
    if rule is Combination.SUM:
        return earlier + value
    return min(earlier, value) if rule is Combination.MIN else max(earlier, value)


def _add_counts(counts: dict[_Key, float], families: Iterable[Metric]) -> None:
    for family in families:
        if family.type != "gauge":
            for key, value in _samples(family):
                counts[key] = counts.get(key, 0.0) + value


def _family_name(sample_name: str) -> str:
    """The name of the family of a sample of a counter or histogram."""
    for ending in ("_total", "_bucket", "_count", "_sum"):
        if sample_name.endswith(ending):
            return sample_name.removesuffix(ending)
    return sample_name
