"""The figures of a run with their goals, as rows of a table or of a JSON file. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from tests.bench.goals import GOALS, Goal

__all__ = ["AGAIN", "OWN", "Row", "as_json", "build_table", "format_number", "noise", "quantile", "ratio"]

OWN = "here"
"""Label of the working tree."""
AGAIN = " again"
"""Ending of the label of a commit's second process."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `values`: the result of each measured commit by its label; `note`: what else there is to see."""

    name: str
    unit: str
    values: Mapping[str, float]
    note: str = ""

    @property
    def goal(self) -> Goal | None:
        return GOALS.get(self.name)

    @property
    def value(self) -> float:
        """The figure of the tree itself: the mean of its processes."""
        return self.mean(OWN)

    @property
    def is_met(self) -> bool | None:
        return None if self.goal is None else self.goal.is_met(self.value)

    def mean(self, label: str) -> float:
        """The mean of a commit's processes; not a number if the commit does not have this figure."""
        values = [self.values[name] for name in (label, label + AGAIN) if name in self.values]
        return statistics.fmean(values) if values else math.nan


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(value / reference for value, reference in zip(values, base, strict=True))


def noise(row: Row) -> float | None:
    """The largest ratio between two processes of one commit; None if each commit has one process."""
    pairs = [(row.values[label], row.values[label + AGAIN]) for label in row.values if label + AGAIN in row.values]
    ratios = [max(pair) / min(pair) if min(pair) > 0 else 1.0 for pair in pairs]
    return max(ratios, default=None)


def format_number(value: float) -> str:
    """Three significant digits; whole numbers from 100 on; a dash for what is not a number."""
    if math.isnan(value):
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def build_table(rows: Sequence[Row], title: str) -> Table:
    """The final table: one line a figure; with a second commit also its figure, the ratio and the noise."""
    present = (label for row in rows for label in row.values if not label.endswith(AGAIN))
    labels = list(dict.fromkeys((OWN, *present)))
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for label in labels:
        table.add_column(label, justify="right")
    if len(labels) > 1:
        table.add_column("ratio", justify="right")
        table.add_column("noise", justify="right")
    table.add_column("unit")
    table.add_column("goal", justify="right")
    table.add_column("also")
    for row in rows:
        table.add_row(*_cells(row, labels))
    return table


def _cells(row: Row, labels: Sequence[str]) -> list[str]:
    color = {True: "[green]", False: "[red]", None: ""}[row.is_met]
    means = [row.mean(label) for label in labels]
    cells = [row.name, color + format_number(means[0]), *map(format_number, means[1:])]
    if len(labels) > 1:
        between = noise(row)
        cells.append(format_number(means[0] / means[1] if means[1] else math.nan))
        cells.append("–" if between is None else f"{between:.2f}")
    return [*cells, row.unit, "–" if row.goal is None else f"{color}{row.goal}", row.note]


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a run as JSON; `about`: what was measured, and where."""
    return {
        **about,
        "figures": [
            {
                "name": row.name,
                "unit": row.unit,
                "value": row.value,
                "values": dict(row.values),
                "goal": None if row.goal is None else str(row.goal),
                "met": row.is_met,
                "note": row.note,
            }
            for row in rows
        ],
    }
