"""An evaluation as a table, as JSON and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from gateway import __version__
from gateway.evaluate.measure import Interval, Score, interval

__all__ = ["as_json", "draw", "tables"]

_ALL = "all"


def tables(scores: Sequence[Score], others: Sequence[Score] | None, names: tuple[str, str]) -> list[Table]:
    """Recall by dataset, category and budget; then what is replaced, then what nothing answers."""
    made = [_recall_table(scores, others, names)]
    if any(score.current is not None for score in scores):
        made.append(_share_table("The newer statement is there, and after the older one", scores, others, _currents))
    if any(score.recall is None for score in scores):
        made.append(_share_table("Nothing answers, and something was injected", scores, others, _false_alarms))
    return made


def as_json(runs: dict[str, Sequence[Score]]) -> dict[str, Any]:
    """Everything that was measured, by configuration."""
    return {
        "gateway": __version__,
        "runs": [
            {
                "configuration": name,
                "recall": [
                    {"dataset": dataset, "category": category, "budget": budget, "questions": len(values)}
                    | asdict(interval(values))
                    for dataset, category in _groups(scores)
                    for budget in _budgets(scores)
                    if (values := _recalls(scores, dataset, category, budget))
                ],
                "questions": [asdict(score) for score in scores],
            }
            for name, scores in runs.items()
        ],
    }


def draw(runs: dict[str, Sequence[Score]], path: Path) -> None:
    """Recall against budget, one line a dataset and configuration, as PNG. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415 — an extra

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for style, (name, scores) in zip(("-", "--"), runs.items(), strict=False):
        for number, dataset in enumerate(dict.fromkeys(score.dataset for score in scores)):
            budgets = [budget for budget in _budgets(scores) if _recalls(scores, dataset, _ALL, budget)]
            found = [interval(_recalls(scores, dataset, _ALL, budget)) for budget in budgets]
            if not found:
                continue
            colour = f"C{number}"
            label = dataset if len(runs) == 1 else f"{dataset}, {name}"
            axes.plot(budgets, [100 * one.mean for one in found], style, marker="o", color=colour, label=label)
            low, high = [100 * one.low for one in found], [100 * one.high for one in found]
            axes.fill_between(budgets, low, high, color=colour, alpha=0.12, linewidth=0)
    budgets = _budgets(next(iter(runs.values())))
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.set(xlabel="token budget", ylabel="evidence recalled, %", ylim=(0, 101))
    axes.set_title("What stands in the prompt, by what it may cost", loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def _recall_table(scores: Sequence[Score], others: Sequence[Score] | None, names: tuple[str, str]) -> Table:
    title = "Evidence recalled within a token budget, % ± half of the 95 % interval" + (
        f": {names[0]}, and against {names[1]}" if others else ""
    )
    table = Table(title=title, title_justify="left")
    for name in ("dataset", "category"):
        table.add_column(name)
    table.add_column("n", justify="right")
    for budget in _budgets(scores):
        table.add_column(str(budget), justify="right", no_wrap=True)
    last = None
    for dataset, category in _groups(scores):
        values = [_recalls(scores, dataset, category, budget) for budget in _budgets(scores)]
        cells = [_cell(interval(one)) for one in values]
        if others:
            theirs = [_recalls(others, dataset, category, budget) for budget in _budgets(scores)]
            cells = [f"{cell}\n{_against(*pair)}" for cell, *pair in zip(cells, values, theirs, strict=True)]
        if last not in (None, dataset):
            table.add_section()
        style = "bold" if category == _ALL else ""
        table.add_row("" if last == dataset else dataset, category, str(len(values[0])), *cells, style=style)
        last = dataset
    return table


def _share_table(title: str, scores: Sequence[Score], others: Sequence[Score] | None, share: Any) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("dataset", "budget", "questions", "share", "tokens, mean"):
        table.add_column(name, justify="left" if name == "dataset" else "right")
    for dataset in dict.fromkeys(score.dataset for score in scores):
        for budget in _budgets(scores):
            values, tokens = share(scores, dataset, budget)
            if not values:
                continue
            cell = _cell(interval(values))
            if others:
                cell += f"\n{_against(values, share(others, dataset, budget)[0])}"
            table.add_row(dataset, str(budget), str(len(values)), cell, f"{sum(tokens) / len(tokens):.0f}")
    return table


def _currents(scores: Sequence[Score], dataset: str, budget: int) -> tuple[list[float], list[int]]:
    chosen = [one for one in scores if (one.dataset, one.budget) == (dataset, budget) and one.current is not None]
    return [float(bool(one.current)) for one in chosen], [one.tokens for one in chosen]


def _false_alarms(scores: Sequence[Score], dataset: str, budget: int) -> tuple[list[float], list[int]]:
    chosen = [one for one in scores if (one.dataset, one.budget) == (dataset, budget) and one.recall is None]
    return [float(one.memories > 0) for one in chosen], [one.tokens for one in chosen]


def _groups(scores: Sequence[Score]) -> list[tuple[str, str]]:
    """Datasets in their order, each as a whole and then by category."""
    found: list[tuple[str, str]] = []
    for dataset in dict.fromkeys(score.dataset for score in scores if score.recall is not None):
        categories = sorted({one.category for one in scores if one.dataset == dataset and one.recall is not None})
        found += [(dataset, _ALL), *((dataset, category) for category in categories if len(categories) > 1)]
    return found


def _budgets(scores: Sequence[Score]) -> list[int]:
    return sorted({score.budget for score in scores})


def _recalls(scores: Sequence[Score], dataset: str, category: str, budget: int) -> list[float]:
    return [
        one.recall
        for one in scores
        if one.dataset == dataset and one.budget == budget and category in (_ALL, one.category)
        if one.recall is not None
    ]


def _cell(one: Interval) -> str:
    return f"{100 * one.mean:.1f} ±{50 * (one.high - one.low):.0f}"


def _against(values: Sequence[float], theirs: Sequence[float]) -> str:
    """The difference to the other configuration on the same questions; green or red if it is more than chance."""
    one = interval([mine - other for mine, other in zip(values, theirs, strict=True)])
    style = "green" if one.low > 0 else "red" if one.high < 0 else "dim"
    return f"[{style}]{100 * one.mean:+.1f} ±{50 * (one.high - one.low):.0f}[/{style}]"
