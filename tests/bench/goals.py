"""The goal of each figure. Pure.

Where a goal is a share of an earlier cost, it is stated as the ratio to the bare pass-through that the share gives.
"""

from dataclasses import dataclass

__all__ = ["GOALS", "Goal"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit that a figure must not exceed, or with `is_minimum` must reach; with `least` a range."""

    limit: float
    is_minimum: bool = False
    least: float | None = None

    def __str__(self) -> str:
        if self.least is not None:
            return f"{self.least:,g}–{self.limit:,g}"
        return f"{'≥' if self.is_minimum else '≤'} {self.limit:,g}"

    def is_met(self, value: float) -> bool:
        if self.least is not None:
            return self.least <= value <= self.limit
        return value >= self.limit if self.is_minimum else value <= self.limit


def _at_least(limit: float) -> Goal:
    return Goal(limit, is_minimum=True)


GOALS = {
    "memory off, CPU a request": Goal(2.0),
    "memory off, CPU a stream": Goal(1.5),
    "memory off, chunk delay added, p50": Goal(0.4),
    "traces off, CPU a request": Goal(2.0),
    "traces on, CPU a request": Goal(3.5),
    "memory on, CPU a request, answers of 120": Goal(35),
    "memory on, CPU a request, answers of 1 000": Goal(80),  # 0.4 × 199
    "memory on, CPU a request at a steady 20 a second": Goal(65),  # 0.35 × 187
    "memory on, requests a second, all hits": _at_least(300),
    "memory on, latency added, p50": Goal(4),
    "memory on, latency added, p95": Goal(10),
    "everyday mix, CPU a request": Goal(12),
    "everyday mix, latency added, p50": Goal(2),
    "add, sync, p50": Goal(8),
    "add, async, p50": Goal(2),
    "drain": _at_least(1500),
    "import, with vectors": _at_least(5000),
    "20 000 memories, recall p50": Goal(4),
    "20 000 memories, first recall": Goal(120),
    "200 000 memories, recall p50": Goal(15),
    "200 000 memories, recall p99": Goal(40),
    "200 000 memories, degraded": Goal(0),
    "200 000 memories, resident": Goal(600),
    "2 workers, requests a second, memory off": _at_least(1.5),
    "2 workers, requests a second, memory on": _at_least(1.4),
    "2 workers, new memory visible in each, p99": Goal(500),
    "2 workers, recalled after a deletion": Goal(0),
    "new memory recalled by another gateway, p99": Goal(1000),
    "failover of the buckets of a killed gateway": Goal(10),
    "first recall of 2 000 memories on S3, p50": Goal(400),
    "first recall of 2 000 memories on S3, max": Goal(400),
    "requests to S3, measured to simulated": Goal(1.2, least=0.8),
    "CPU a chat, a cluster of 1": Goal(1.25),
    "CPU a chat, a cluster of 3": Goal(1.25),
    "CPU a chat, a cluster of 3, each as busy": Goal(1.25),
    "idle, resident": Goal(300),
    "ready, empty folder": Goal(1.5),
    "ready, 6 000 memories": Goal(2),
}
