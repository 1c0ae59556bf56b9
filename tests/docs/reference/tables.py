"""Markdown tables and data files of the reference."""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["DOCS", "ROOT", "code", "load", "table"]

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def load(name: str) -> dict[str, Any]:
    """The data file `docs/reference/data/NAME.toml`: descriptions that the code does not contain."""
    return tomllib.loads((DOCS / "reference" / "data" / f"{name}.toml").read_text(encoding="utf-8"))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def code(text: str) -> str:
    """Text as inline code."""
    return f"`{text}`"
