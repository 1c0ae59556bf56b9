"""Requests with memory: each recalls from 2 000 memories, and is remembered with its answer."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.client import Load, Reply, Sample, count_statuses
from tests.bench.processes import Server
from tests.bench.results import OWN, Row, quantile, ratio
from tests.bench.setting import Bench
from tests.bench.texts import Texts

__all__ = ["MEMORIES", "USERS", "data_of", "measure_everyday", "measure_long", "measure_short", "measure_steady"]

MEMORIES = 2_000
USERS = 8
"""One user a round, so that what is stored on the way does not make the next round larger."""
_CUT_SHORT = ("partial", "degraded")
_BARE_FACTOR = 8  # a bare request costs so little that more of them are needed


@dataclass
class _Results:
    """The samples and latencies of all servers, by label."""

    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def ratios(self) -> dict[str, float]:
        """CPU time a request as the ratio to bare."""
        base = [sample.cpu_ms for sample in self.samples["bare"]]
        costs = {label: [sample.cpu_ms for sample in samples] for label, samples in self.samples.items()}
        return {label: ratio(values, base) for label, values in costs.items() if label != "bare"}

    def added(self, share: float) -> dict[str, float]:
        """A quantile of the latencies, less the same of bare."""
        base = quantile(self.latencies["bare"], share)
        return {label: quantile(values, share) - base for label, values in self.latencies.items() if label != "bare"}

    def replies(self, label: str) -> Sequence[Reply]:
        return [reply for sample in self.samples[label] for reply in sample.replies]

    def hits(self) -> str:
        """The share of hits of each process, and of the requests whose recall was cut short."""
        parts = []
        for label in self.samples:
            if label != "bare":
                statuses = [reply.memory for reply in self.replies(label)]
                shares = (sum(map(statuses.count, names)) / len(statuses) for names in (("hit",), _CUT_SHORT))
                parts.append("{:.0%} hits, {:.0%} partial or degraded".format(*shares))
        return "; ".join(parts)

    def note(self) -> str:
        """CPU milliseconds of the tree itself, and the statuses of memory."""
        middle = quantile([sample.cpu_ms for sample in self.samples[OWN]], 0.5)
        return f"{middle:.2f} CPU-ms; {count_statuses(self.replies(OWN))}"


def data_of(bench: Bench) -> Path:
    """The data folder with the users of these figures."""
    return bench.folder / "users"


async def measure_short(bench: Bench) -> list[Row]:
    """Answers of 120 characters, 8 at once; and one connection."""
    count = bench.sizes.requests
    results = await _measure(bench, "memory on", lambda texts: list(texts.questions(count)), has_latency=True)
    rates = {
        label: quantile([_rate_of_hits(sample) for sample in samples], 0.5)
        for label, samples in results.samples.items()
        if label != "bare"
    }
    return [
        Row("memory on, CPU a request, answers of 120", "× bare", results.ratios(), results.note()),
        Row("memory on, requests a second, all hits", "1/s", rates, results.hits()),
        Row("memory on, latency added, p50", "ms", results.added(0.5)),
        Row("memory on, latency added, p95", "ms", results.added(0.95)),
    ]


async def measure_long(bench: Bench) -> list[Row]:
    """Answers of 1 000 characters, 8 at once."""
    count = bench.sizes.requests // 2
    results = await _measure(bench, "long answers", lambda texts: list(texts.questions(count)), length=1_000)
    return [Row("memory on, CPU a request, answers of 1 000", "× bare", results.ratios(), results.note())]


async def measure_steady(bench: Bench) -> list[Row]:
    """20 requests a second, as the ratio to bare at 8 at once: a bare request at this rate is too little to measure."""
    count = bench.sizes.steady_seconds * 20
    results = await _measure(bench, "steady rate", lambda texts: list(texts.questions(count)), per_second=20)
    return [Row("memory on, CPU a request at a steady 20 a second", "× bare", results.ratios(), results.note())]


async def measure_everyday(bench: Bench) -> list[Row]:
    """Nine tasks to one personal question, answers of 600 characters."""
    count = bench.sizes.requests
    results = await _measure(
        bench, "everyday mix", lambda texts: list(texts.everyday(count)), length=600, has_latency=True, is_everyday=True
    )
    return [
        Row("everyday mix, CPU a request", "× bare", results.ratios(), results.note()),
        Row("everyday mix, latency added, p50", "ms", results.added(0.5)),
        Row("everyday mix, latency added, p95", "ms", results.added(0.95)),
    ]


async def _measure(
    bench: Bench,
    name: str,
    choose: Callable[[Texts], list[str]],
    *,
    length: int = 120,
    per_second: float = 0,
    has_latency: bool = False,
    is_everyday: bool = False,
) -> _Results:
    results = _Results()

    async def measure(server: Server, number: int) -> None:
        texts, user = Texts(f"{name} {number}"), f"bench{number % USERS}"
        asked = choose(texts)
        load = Load(asked, length, per_second=per_second, is_everyday=is_everyday)
        if not server.has_memory:
            load = replace(load, texts=asked * _BARE_FACTOR, per_second=0)
        warm_up = choose(Texts(f"{name} {number} warm-up"))[: len(asked) // 4]
        warm_up *= 1 if server.has_memory else _BARE_FACTOR
        sample = await bench.client.measure(server, load, warm_up, user)
        latencies: list[float] = []
        if has_latency:
            more = choose(Texts(f"{name} {number} latency"))[: bench.sizes.latencies]
            replies = await bench.client.run(server, replace(load, texts=more, at_once=1, per_second=0), user)
            latencies = [reply.ms for reply in replies]
            if server.has_memory:  # or the next server would be measured while this one still stores
                await bench.client.settle(server)
        if number:
            results.samples[server.label].append(sample)
            results.latencies[server.label] += latencies

    async with bench.gateways(data_of(bench)) as gateways:
        await bench.in_rounds(name, [bench.bare, *gateways], measure)
    return results


def _rate_of_hits(sample: Sample) -> float:
    """Requests a second that got memories from a whole search: those that were cut short do not count."""
    return sample.per_second * sum(reply.memory == "hit" for reply in sample.replies) / len(sample.replies)
