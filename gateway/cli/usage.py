"""`gateway usage`: prints requests, tokens and cost as a table."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["show"]

_COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "estimated_tokens")


def show(found: dict[str, Any], by: list[str], console: Console) -> None:
    """Print an answer of `/v1/usage`."""
    begin, end = (datetime.fromtimestamp(found[name], UTC).date().isoformat() for name in ("since", "until"))
    table = Table(title=f"{begin} to {end}, UTC: requests and tokens")
    for name in by:
        table.add_column(name)
    for name in (*_COUNTS, "US$"):
        table.add_column(name.removesuffix("_tokens"), justify="right")
    for row in found["data"]:
        names = [_hour(row[name]) if name == "hour" else escape(str(row[name])) or "-" for name in by]
        table.add_row(*names, *(f"{row[name]:,}" for name in _COUNTS), _money(row))
    console.print(table if found["data"] else "nothing was used in this time")


def _money(row: dict[str, Any]) -> str:
    """The cost; marked if some requests have no price."""
    if not row["priced"]:
        return "-"
    return f"{row['cost']:,.4f}" + ("" if row["priced"] == row["requests"] else " +?")


def _hour(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:00")
