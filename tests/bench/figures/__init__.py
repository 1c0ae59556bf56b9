"""The figures of the benchmark. Each function measures all variants in the same rounds and returns rows."""

from collections.abc import Awaitable, Callable

from tests.bench.figures.adding import measure_adding, measure_import
from tests.bench.figures.growth import measure_growth
from tests.bench.figures.memory_off import measure_plain, measure_streams
from tests.bench.figures.memory_on import measure_everyday, measure_long, measure_short, measure_steady
from tests.bench.figures.starting import measure_start
from tests.bench.figures.traced import measure_traced
from tests.bench.figures.workers import measure_workers
from tests.bench.results import Row
from tests.bench.setting import Bench

__all__ = ["FIGURES"]

FIGURES: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "off": measure_plain,
    "streams": measure_streams,
    "traces": measure_traced,
    "on": measure_short,
    "long": measure_long,
    "steady": measure_steady,
    "everyday": measure_everyday,
    "add": measure_adding,
    "import": measure_import,
    "growth": measure_growth,
    "start": measure_start,
    "workers": measure_workers,
}
"""The figures by the name of the option `--only`, in the order of the table."""
