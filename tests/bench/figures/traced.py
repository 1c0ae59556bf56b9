"""Requests without memory, with and without traces: what exporting them costs."""

from collections import defaultdict
from contextlib import AsyncExitStack

from tests.bench.client import Load
from tests.bench.processes import ROOT, Server
from tests.bench.results import Row, quantile, ratio
from tests.bench.setting import Bench, Variant
from tests.bench.texts import Texts

__all__ = ["measure_traced"]

_TRACED = " traced"


async def measure_traced(bench: Bench) -> list[Row]:
    """CPU time of plain requests, 8 at once, each of which is a trace; other commits are measured without traces."""
    costs = defaultdict[str, list[float]](list)

    async def measure(server: Server, number: int) -> None:
        texts = Texts(f"traced {number}")
        asked = [texts.question() for _ in range(bench.sizes.plain_requests)]
        sample = await bench.client.measure(server, Load(asked), asked[: len(asked) // 4])
        if number:
            costs[server.label].append(sample.cpu_ms)

    async with AsyncExitStack() as stack:
        servers = [bench.bare, *await stack.enter_async_context(bench.gateways(has_memory=False))]
        for variant in bench.variants:
            if variant.root == ROOT:
                traced = Variant(variant.label + _TRACED, variant.root)
                start = bench.gateway(traced, has_memory=False, is_traced=True)
                servers.append(await stack.enter_async_context(start))
        await bench.in_rounds("traces", servers, measure)
    base = costs.pop("bare")
    ratios = {label: ratio(values, base) for label, values in costs.items()}
    off = {label: value for label, value in ratios.items() if not label.endswith(_TRACED)}
    on = {label.removesuffix(_TRACED): value for label, value in ratios.items() if label.endswith(_TRACED)}
    note = f"bare: {quantile(base, 0.5):.3f} CPU-ms"
    return [
        Row("traces off, CPU a request", "× bare", off, note),
        Row("traces on, CPU a request", "× bare", on),
    ]
