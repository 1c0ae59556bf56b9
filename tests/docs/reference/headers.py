"""Reference of the headers: descriptions from `data/headers.toml`, compared with the headers that the code names."""

import re

from tests.docs.reference.tables import ROOT, code, load, table

__all__ = ["describe_requests", "describe_responses", "described", "used"]


def describe_requests() -> str:
    """A table of the request headers."""
    return table(
        ("request header", "meaning"), [(code(name), text) for name, text in load("headers")["request"].items()]
    )


def describe_responses() -> str:
    """A table of the response headers."""
    return table(
        ("response header", "meaning"), [(code(name), text) for name, text in load("headers")["response"].items()]
    )


def described() -> set[str]:
    """The names of the headers in the data file."""
    data = load("headers")
    return {*data["request"], *data["response"]}


def used() -> set[str]:
    """The headers of the gateway that its code names."""
    texts = (file.read_text(encoding="utf-8") for file in (ROOT / "gateway").rglob("*.py"))
    return {name for text in texts for name in re.findall(r'"(x-(?:memory|gateway)-[a-z-]+)"', text)}
