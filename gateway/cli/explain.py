"""`gateway memory explain`: prints the recall of a turn, with the reasons."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.cli.calling import readable
from gateway.memory.recalled import SCORE_PARTS

__all__ = ["show"]

_SHOWN = 20  # candidates
_CHARACTERS = 70
_NEED_PARTS = 4
_WIDE = 140  # columns of a terminal
_COLUMNS = {"best of stretch": "best"}

_HELP = "[dim]how to read this: docs/concepts/recall.md[/dim]"


def show(explanation: dict[str, Any], console: Console, *, everything: bool) -> None:
    """Print an explanation from the route `/v1/memory/explain`."""
    injected, candidates = explanation["injected"], explanation["candidates"]
    console.print(f"[bold]{readable(explanation['query'])}[/bold]")
    console.print(
        f"user {readable(explanation['user_id'])} · {explanation['at']} · {explanation['status']}"
        + (f" ({explanation['reason']})" if explanation["reason"] else "")
    )
    if explanation["need"] is not None:
        parts = list(explanation["need"]["parts"].items())[:_NEED_PARTS]
        parts_text = ", ".join(f"{name} {log_odds:+.1f}" for name, log_odds in parts)
        need = explanation["need"]
        console.print(
            f"needs memory with a probability of {need['probability']:.2f} ({parts_text}); "
            f"from {need['threshold']:.2f} on memories are injected (memory.recall.selectivity)"
        )
    chosen = sum(candidate["outcome"] == "injected" for candidate in candidates)
    standing = injected["standing_count"]
    console.print(
        f"{chosen} of {len(candidates)} candidates injected"
        + (f" and {standing} that always hold" if standing else "")
        + f", {injected['tokens']} of {explanation['token_budget']} tokens"
    )
    if explanation["reason"] == "no_query":
        console.print("Not searched: the message only reacts, or has no words to search for.")
        console.print(_HELP)
        return
    if explanation["reason"] == "kept":
        console.print("The block of the first answer to this message was injected again, unchanged.")
        console.print(_HELP)
        return
    if not candidates:
        console.print("Nothing was found. Was it said by this user, and is it stored yet (see /ready)?")
        console.print(_HELP)
        return
    rows = candidates if everything else candidates[:_SHOWN]
    console.print(_table(rows, console.width))
    if console.width < _WIDE:
        console.print(f"a terminal of {_WIDE} columns shows the parts of the scores; --json has them too")
    if len(rows) < len(candidates):
        outcomes = Counter(candidate["outcome"] for candidate in candidates[len(rows) :])
        rest = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        console.print(f"and {len(candidates) - len(rows)} more ({rest}); --all shows them")
    console.print(_HELP)


def _table(candidates: list[dict[str, Any]], width: int) -> Table:
    table = Table(expand=True)
    table.add_column("#", justify="right")
    table.add_column("outcome")
    table.add_column("said", ratio=1, min_width=30, no_wrap=True)
    parts_shown = SCORE_PARTS if width >= _WIDE else ()
    for name in ("tokens", "probable", "relevant", "score", *(_COLUMNS.get(part, part) for part in parts_shown)):
        table.add_column(name, justify="right")
    for number, candidate in enumerate(candidates, start=1):
        style = "green" if candidate["outcome"] == "injected" else "dim"
        text = " ".join(candidate["text"].split())[:_CHARACTERS]
        parts = [f"{candidate['parts'].get(part, 0.0):.1f}" for part in parts_shown]
        head = [
            str(number),
            candidate["outcome"],
            readable(f"{candidate['event_time'][:10]} {candidate['source']}: {text}"),
        ]
        probable = "" if candidate["probability"] is None else f"{candidate['probability']:.3f}"
        table.add_row(
            *head,
            str(candidate["tokens"]),
            probable,
            f"{candidate['relativity']:.2f}",
            f"{candidate['score']:.1f}",
            *parts,
            style=style,
        )
    return table
