"""Memories as `gateway memory list` prints them."""

import io
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.history import show

MEMORY: dict[str, Any] = {
    "id": "ab" * 16, "kind": "turn", "from": "2026-01-02T00:00", "until": None, "status": "activated",
    "is_learnt": False, "source": "user", "text": f"My [red]car[/red] is {'very ' * 20}fast.",
}  # fmt: skip


@pytest.mark.parametrize("width", [30, 45, 60, 80, 200])
def test_the_text_has_at_least_half_of_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    show([MEMORY], console)
    printed: Any = console.file
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "[red]car[/red]" in " ".join(lines), "text is no markup"
    assert " ".join(" ".join(lines).split()).count("very") == 20
    assert len(lines) <= 2 + 2 * len(MEMORY["text"]) / width + 2
