"""Output of an evaluation: tables, JSON and a plot."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from gateway import __version__
from gateway.evaluate.measure import Interval, Score, interval

__all__ = ["as_json", "draw", "tables"]

_ALL = "all"
Cell = Callable[[Sequence[Score], Sequence[Score] | None], str]
"""Formats the scores of a cell, in a comparison with those of the other side."""


def tables(scores: Sequence[Score], others: Sequence[Score] | None, names: tuple[str, str]) -> list[Table]:
    """Tables of recall and tokens by dataset, category and budget; of superseded statements; and of the noise for
    questions without an answer."""
    result = [_recall_table(scores, others, names)]
    if any(score.current is not None for score in scores):
        result.append(_current_table(scores, others))
    if any(score.recall is None for score in scores):
        result.append(_noise_table(scores, others))
    return result


def as_json(runs: dict[str, Sequence[Score]]) -> dict[str, Any]:
    """All measurements, by configuration."""
    return {
        "gateway": __version__,
        "runs": [
            {
                "configuration": name,
                "recall": [
                    {"dataset": dataset, "category": category, "budget": budget, "questions": len(chosen)}
                    | asdict(interval([score.recall or 0.0 for score in chosen]))
                    | {"tokens": _mean(score.tokens for score in chosen)}
                    for dataset, category in _groups(scores, is_answered=True)
                    for budget in _budgets(scores)
                    if (chosen := _select(scores, dataset, category, budget, is_answered=True))
                ],
                "noise": [
                    {
                        "dataset": dataset,
                        "category": category,
                        "budget": budget,
                        "questions": len(chosen),
                        "share": _mean(score.noise > 0 for score in chosen),
                        "tokens": _mean(score.noise for score in chosen),
                    }
                    for dataset, category in _groups(scores, is_answered=False)
                    for budget in _budgets(scores)
                    if (chosen := _select(scores, dataset, category, budget, is_answered=False))
                ],
                "questions": [asdict(score) for score in scores],
            }
            for name, scores in runs.items()
        ],
    }


def draw(runs: dict[str, Sequence[Score]], path: Path) -> None:
    """Plot recall against mean tokens as PNG: a line for each dataset and configuration, a point for each budget.
    Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415 — an extra

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for style, (name, scores) in zip(("-", "--"), runs.items(), strict=False):
        for number, dataset in enumerate(dict.fromkeys(score.dataset for score in scores)):
            points = [
                chosen
                for budget in _budgets(scores)
                if (chosen := _select(scores, dataset, _ALL, budget, is_answered=True))
            ]
            if not points:
                continue
            recalls = [interval([score.recall or 0.0 for score in chosen]) for chosen in points]
            tokens = [_mean(score.tokens for score in chosen) for chosen in points]
            colour = f"C{number}"
            label = dataset if len(runs) == 1 else f"{dataset}, {name}"
            axes.plot(tokens, [100 * recall.mean for recall in recalls], style, marker="o", color=colour, label=label)
            low, high = [100 * recall.low for recall in recalls], [100 * recall.high for recall in recalls]
            axes.fill_between(tokens, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel="tokens injected, mean", ylabel="evidence recalled, %", ylim=(0, 101))
    axes.set_xlim(left=0)
    axes.set_title("Evidence in the prompt, by its cost", loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def _recall_table(scores: Sequence[Score], others: Sequence[Score] | None, names: tuple[str, str]) -> Table:
    title = (f"{names[0]}, and against {names[1]}\n" if others else "") + (
        "Evidence recalled within a token budget, % ± half of the 95 % interval, and mean tokens injected"
    )

    def text(chosen: Sequence[Score]) -> str:
        return f"{_share(interval([_recall(score) for score in chosen]))} {_mean_tokens(chosen)}"

    return _table(title, scores, others, _cell(text, _recall), is_answered=True)


def _noise_table(scores: Sequence[Score], others: Sequence[Score] | None) -> Table:
    title = "Nothing answers: % of questions with anything but standing preferences, and mean tokens of it"

    def text(chosen: Sequence[Score]) -> str:
        return f"{100 * _mean(map(_has_noise, chosen)):.0f} % {_mean(score.noise for score in chosen):.0f}"

    return _table(title, scores, others, _cell(text, _has_noise), is_answered=False)


def _current_table(scores: Sequence[Score], others: Sequence[Score] | None) -> Table:
    title = "The newer statement is there, and after the older one, %"
    changing = [score for score in scores if score.current is not None]
    theirs_changing = None if others is None else [score for score in others if score.current is not None]

    def text(chosen: Sequence[Score]) -> str:
        return _share(interval([_is_current(score) for score in chosen]))

    return _table(title, changing, theirs_changing, _cell(text, _is_current), is_answered=True)


def _recall(score: Score) -> float:
    return score.recall or 0.0


def _has_noise(score: Score) -> float:
    return float(score.noise > 0)


def _is_current(score: Score) -> float:
    return float(bool(score.current))


def _cell(text: Callable[[Sequence[Score]], str], value: Callable[[Score], float]) -> Cell:
    """A cell: the text of the scores and, in a comparison, the mean difference of their values."""

    def cell(chosen: Sequence[Score], theirs: Sequence[Score] | None) -> str:
        if theirs is None:
            return text(chosen)
        differences = [value(mine) - value(other) for mine, other in zip(chosen, theirs, strict=True)]
        return f"{text(chosen)}\n{_difference(differences)}"

    return cell


def _table(
    title: str,
    scores: Sequence[Score],
    others: Sequence[Score] | None,
    cell: Cell,
    *,
    is_answered: bool,
) -> Table:
    """A table with a row for each dataset and category, and a column for each budget."""
    table = Table(title=title, title_justify="left")
    for name in ("dataset", "category"):
        table.add_column(name)
    table.add_column("n", justify="right")
    for budget in _budgets(scores):
        table.add_column(str(budget), justify="right", no_wrap=True)
    last = None
    for dataset, category in _groups(scores, is_answered=is_answered):
        cells: list[str] = []
        count = 0
        for budget in _budgets(scores):
            chosen = _select(scores, dataset, category, budget, is_answered=is_answered)
            theirs = others and _select(others, dataset, category, budget, is_answered=is_answered)
            cells.append(cell(chosen, theirs or None))
            count = len(chosen)
        if last not in (None, dataset):
            table.add_section()
        style = "bold" if category == _ALL else ""
        table.add_row("" if last == dataset else dataset, category, str(count), *cells, style=style)
        last = dataset
    return table


def _groups(scores: Sequence[Score], *, is_answered: bool) -> list[tuple[str, str]]:
    """Pairs of dataset and category, in order; each dataset first as a whole, then by category."""
    relevant = [score for score in scores if (score.recall is not None) is is_answered]
    groups: list[tuple[str, str]] = []
    for dataset in dict.fromkeys(score.dataset for score in relevant):
        categories = sorted({score.category for score in relevant if score.dataset == dataset})
        groups += [(dataset, _ALL), *((dataset, category) for category in categories if len(categories) > 1)]
    return groups


def _budgets(scores: Sequence[Score]) -> list[int]:
    return sorted({score.budget for score in scores})


def _select(scores: Sequence[Score], dataset: str, category: str, budget: int, *, is_answered: bool) -> list[Score]:
    return [
        score
        for score in scores
        if score.dataset == dataset
        and score.budget == budget
        and category in (_ALL, score.category)
        and (score.recall is not None) is is_answered
    ]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean_tokens(chosen: Sequence[Score]) -> str:
    return f"[dim]{_mean(score.tokens for score in chosen):.0f}[/dim]"


def _share(value: Interval) -> str:
    return f"{100 * value.mean:.1f} ±{50 * (value.high - value.low):.0f}"


def _difference(differences: Sequence[float]) -> str:
    """The mean difference to the other configuration; green or red if significant."""
    value = interval(differences)
    style = "green" if value.low > 0 else "red" if value.high < 0 else "dim"
    return f"[{style}]{100 * value.mean:+.1f} ±{50 * (value.high - value.low):.0f}[/{style}]"
