"""Validation of names that are looked up in a table, which can grow after the configuration is defined."""

from collections.abc import Iterable
from typing import Any

__all__ = ["check_name"]


def check_name(value: Any, names: Iterable[str]) -> str:
    """Return the value if it is one of the names, in the words of pydantic's `Literal`. Raises ValueError."""
    expected = [f"'{name}'" for name in names]
    if isinstance(value, str) and f"'{value}'" in expected:
        return value
    text = ", ".join(expected[:-1]) + " or " * (len(expected) > 1) + expected[-1]
    raise ValueError(f"Input should be {text}")
