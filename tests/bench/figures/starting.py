"""The start of a gateway: until it answers, until its memory is ready; and its memory while idle."""

import asyncio
import shutil
import time
from collections import defaultdict
from pathlib import Path

from tests.bench.processes import start_gateway, wait_until
from tests.bench.results import Row, quantile
from tests.bench.setting import READY, Bench, Variant

__all__ = ["STORED", "data_stored", "measure_start"]

STORED = 6_000
_IDLE = 3.0  # seconds after which a started gateway is idle


def data_stored(bench: Bench) -> Path:
    """The data folder with 6 000 memories."""
    return bench.folder / "stored"


async def measure_start(bench: Bench) -> list[Row]:
    """Starts on an empty folder and on one with 6 000 memories; the first round does not count."""
    columns = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    for number in range(bench.sizes.starts + 1):
        for variant in bench.variants:
            for name, data in (("empty folder", None), (f"{STORED:,} memories".replace(",", " "), data_stored(bench))):
                answers, ready, idle = await _start(bench, variant, data)
                if number:
                    columns[f"ready, {name}"][variant.label].append(ready)
                if number and data is None:
                    columns["first answer"][variant.label].append(answers)
                    columns["idle, resident"][variant.label].append(idle)
        bench.step(f"start {number} of {bench.sizes.starts}")
    middles = {
        name: {label: quantile(values, 0.5) for label, values in by_label.items()} for name, by_label in columns.items()
    }
    return [Row(name, "MiB" if name.startswith("idle") else "s", values) for name, values in middles.items()]


async def _start(bench: Bench, variant: Variant, data: Path | None) -> tuple[float, float, float]:
    """Seconds until the first answer and until the memory is ready; resident MiB a while later."""
    folder = bench.prepare(variant, data)
    began = time.perf_counter()
    server = start_gateway(variant.label, variant.root, folder, bench.upstream.port)
    try:
        await wait_until(bench.client.session, server, "/health", b"healthy")
        answers = time.perf_counter() - began
        await wait_until(bench.client.session, server, "/ready", READY)
        ready = time.perf_counter() - began
        await asyncio.sleep(_IDLE if data is None else 0)
        return answers, ready, server.resident_mib()
    finally:
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder, ignore_errors=True)
