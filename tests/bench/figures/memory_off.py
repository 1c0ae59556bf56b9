"""Requests and streams without memory: they name no user."""

from collections import defaultdict

from tests.bench.client import Load
from tests.bench.processes import Server
from tests.bench.results import Row, quantile, ratio
from tests.bench.setting import Bench
from tests.bench.texts import Texts

__all__ = ["measure_plain", "measure_streams"]


async def measure_plain(bench: Bench) -> list[Row]:
    """CPU time of plain requests, 8 at once."""
    costs = defaultdict[str, list[float]](list)
    latencies = defaultdict[str, list[float]](list)

    async def measure(server: Server, number: int) -> None:
        texts = Texts(f"off {number}")
        asked = [texts.question() for _ in range(bench.sizes.plain_requests)]
        sample = await bench.client.measure(server, Load(asked), asked[: len(asked) // 4])
        replies = await bench.client.run(server, Load(asked[: bench.sizes.latencies], at_once=1))
        if number:
            costs[server.label].append(sample.cpu_ms)
            latencies[server.label] += [reply.ms for reply in replies]

    async with bench.gateways(has_memory=False) as gateways:
        await bench.in_rounds("memory off", [bench.bare, *gateways], measure)
    base = costs.pop("bare")
    quantiles = {label: (quantile(values, 0.5), quantile(values, 0.95)) for label, values in latencies.items()}
    (bare_middle, bare_high), own = quantiles.pop("bare"), quantiles
    note = f"bare: {quantile(base, 0.5):.3f} CPU-ms"
    return [
        Row(
            "memory off, CPU a request", "× bare", {label: ratio(values, base) for label, values in costs.items()}, note
        ),
        Row("memory off, latency added, p50", "ms", {label: value[0] - bare_middle for label, value in own.items()}),
        Row("memory off, latency added, p95", "ms", {label: value[1] - bare_high for label, value in own.items()}),
    ]


async def measure_streams(bench: Bench) -> list[Row]:
    """CPU time of paced streams, 50 at once, with their chunks in bursts; and the delay of chunks that come one by one:
    that of a burst is mostly the upstream's and the client's own time."""
    costs = defaultdict[str, list[float]](list)
    delays = defaultdict[str, list[float]](list)

    async def measure(server: Server, number: int) -> None:
        before = server.cpu()
        await bench.client.streams(server, bench.sizes.streams)
        cpu_ms = (server.cpu() - before) * 1000 / bench.sizes.streams
        values = await bench.client.streams(server, bench.sizes.streams, is_spread=True)
        if number:
            costs[server.label].append(cpu_ms)
            delays[server.label].append(quantile(values, 0.5))

    async with bench.gateways(has_memory=False) as gateways:
        await bench.in_rounds("streams", [bench.bare, *gateways], measure)
    base, base_delays = costs.pop("bare"), delays.pop("bare")
    added = {
        label: quantile([value - bare for value, bare in zip(values, base_delays, strict=True)], 0.5)
        for label, values in delays.items()
    }
    note = f"bare: {quantile(base, 0.5):.2f} CPU-ms"
    return [
        Row(
            "memory off, CPU a stream", "× bare", {label: ratio(values, base) for label, values in costs.items()}, note
        ),
        Row("memory off, chunk delay added, p50", "ms", added, f"bare: {quantile(base_delays, 0.5):.2f} ms"),
    ]
