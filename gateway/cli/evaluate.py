"""`gateway eval`: measures recall of evidence on conversations from files."""

import argparse
import asyncio
import json
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.config import Config
from gateway.evaluate.conversations import Conversations, read
from gateway.evaluate.measure import Score
from gateway.evaluate.report import as_json, draw, tables
from gateway.evaluate.run import evaluate, steps
from gateway.telemetry import set_up_logging

__all__ = ["run"]


def run(arguments: argparse.Namespace, configs: dict[str, Config]) -> int:
    """Evaluate the configurations and print tables. Raises Unreadable, Failed, ConfigError or OSError."""
    console = Console()
    set_up_logging("error")
    sets = [read(path) for path in arguments.files]
    runs = {name: _measure(config, sets, arguments, name, console) for name, config in configs.items()}
    names = list(runs)
    others = runs[names[1]] if len(names) > 1 else None
    for table in tables(runs[names[0]], others, (names[0], names[-1])):
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(runs), ensure_ascii=False, indent=1), encoding="utf-8")
        console.print(f"saved {arguments.json}")
    if arguments.plot:
        try:
            draw(runs, arguments.plot)
            console.print(f"drew {arguments.plot}")
        except ImportError:
            console.print("no plot: it needs matplotlib (pip install 'memory-gateway\\[eval]')")
    return 0


def _measure(
    config: Config, sets: Sequence[Conversations], arguments: argparse.Namespace, name: str, console: Console
) -> Sequence[Score]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        total = steps(sets, arguments.budgets, everything=arguments.all)
        task = bar.add_task(f"{name}: telling and asking", total=total)
        scores = evaluate(
            config, sets, arguments.budgets, lambda done: bar.advance(task, done), everything=arguments.all
        )
        return asyncio.run(scores)
