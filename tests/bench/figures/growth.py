"""Recall of one user with very many memories."""

from pathlib import Path

from tests.bench.client import Load, Reply
from tests.bench.results import OWN, Row, quantile
from tests.bench.setting import Bench, Variant
from tests.bench.texts import Texts

__all__ = ["LARGE_USER", "data_with", "measure_growth"]

LARGE_USER = "large"
_CUT = ("degraded", "partial")


def data_with(bench: Bench, memories: int) -> Path:
    """The data folder of a user with this many memories."""
    return bench.folder / f"large{memories}"


async def measure_growth(bench: Bench) -> list[Row]:
    """The first recall of a process, and those after it; resident memory before and after."""
    rows: list[Row] = []
    for memories in bench.sizes.growth:
        columns: dict[str, dict[str, float]] = {}
        notes: dict[str, str] = {}
        for variant in bench.variants:
            figures, notes[variant.label] = await _measure(bench, variant, memories)
            for name, value in figures.items():
                columns.setdefault(name, {})[variant.label] = value
            bench.step(f"{memories} memories, {variant.label}")
        label = f"{memories:,} memories".replace(",", " ")
        note = notes[OWN]
        units = {"degraded": "%", "resident": "MiB", "CPU a request": "CPU-ms"}
        for name, values in columns.items():
            is_first = name == "first recall"
            rows.append(Row(f"{label}, {name}", units.get(name, "ms"), values, note if is_first else ""))
    return rows


async def _measure(bench: Bench, variant: Variant, memories: int) -> tuple[dict[str, float], str]:
    texts = Texts(f"growth {memories}")
    async with bench.gateway(variant, data_with(bench, memories)) as server:
        idle = server.resident_mib()
        first = await bench.client.ask(server, texts.question(), user=LARGE_USER, mode="read")
        load = Load(list(texts.questions(bench.sizes.questions)), at_once=1)
        before = server.cpu()
        replies = await bench.client.run(server, load, LARGE_USER, mode="read")
        cpu_ms = (server.cpu() - before) * 1000 / len(replies)
        resident = server.resident_mib()
    overheads = [reply.overhead_ms for reply in replies]
    figures = {
        "recall p50": quantile(overheads, 0.5),
        "recall p99": quantile(overheads, 0.99),
        "first recall": first.overhead_ms,
        "CPU a request": cpu_ms,
        "degraded": 100 * _share_cut(replies),
        "resident": resident,
    }
    return figures, f"{first.memory}; {idle:.0f} MiB before"


def _share_cut(replies: list[Reply]) -> float:
    return sum(reply.memory in _CUT for reply in replies) / len(replies)
