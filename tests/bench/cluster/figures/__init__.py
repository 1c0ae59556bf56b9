"""The figures of the benchmark of clusters. Each function returns rows."""

from collections.abc import Awaitable, Callable

from tests.bench.cluster.figures.cold import measure_cold
from tests.bench.cluster.figures.cpu import measure_cpu
from tests.bench.cluster.figures.edits import measure_edits
from tests.bench.cluster.figures.failover import measure_failover
from tests.bench.cluster.figures.requests import measure_requests
from tests.bench.cluster.figures.visibility import measure_visibility
from tests.bench.cluster.setting import ClusterBench
from tests.bench.results import Row

__all__ = ["FIGURES"]

FIGURES: dict[str, Callable[[ClusterBench], Awaitable[list[Row]]]] = {
    "visible": measure_visibility,
    "failover": measure_failover,
    "cold": measure_cold,
    "requests": measure_requests,
    "cpu": measure_cpu,
    "edits": measure_edits,
}
"""The figures by the name of the option `--only`, in the order of the table."""
