"""Reference of the guarantees: promises and the tests that prove them, from `data/guarantees.toml`."""

import ast
from functools import cache

from tests.docs.reference.tables import ROOT, code, load, table

__all__ = ["defined_tests", "describe_guarantees", "promised_tests"]


def describe_guarantees() -> str:
    """A table for each group of promises. Raises ValueError if a test does not exist."""
    missing = promised_tests() - defined_tests().keys()
    if missing:
        raise ValueError(f"guarantees.toml names tests that do not exist: {', '.join(sorted(missing))}")
    parts = []
    for group in load("guarantees")["group"]:
        rows = [(promise, ", ".join(map(code, tests))) for promise, tests in group["promises"].items()]
        parts += [f"## {group['title']}", table(("promise", "tests"), rows)]
    return "\n\n".join(parts)


def promised_tests() -> set[str]:
    """The names of all tests in the data file."""
    groups = load("guarantees")["group"]
    return {test for group in groups for tests in group["promises"].values() for test in tests}


@cache
def defined_tests() -> dict[str, str]:
    """The tests of the suite, with their files."""
    return {
        node.name: file.relative_to(ROOT).as_posix()
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
