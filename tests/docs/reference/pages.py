"""The generated pages. A generated part is between `<!-- generated: NAME -->` and `<!-- end -->` in a page; the text
around it is written by hand."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.reference import (
    clients,
    command_line,
    configuration,
    errors,
    guarantees,
    headers,
    hooks,
    http_api,
    metrics,
)
from tests.docs.reference.tables import DOCS

__all__ = ["PAGES", "Page", "read", "render"]

_PART = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A page of the reference: its file, and the functions that generate its parts, by name."""

    file: Path
    parts: Mapping[str, Callable[[], str]]


def _page(name: str, **parts: Callable[[], str]) -> Page:
    return Page(
        DOCS / "reference" / f"{name}.md", {part.replace("_", "-"): function for part, function in parts.items()}
    )


PAGES: dict[str, Page] = {
    "configuration": _page(
        "configuration", configuration=configuration.describe_keys, plugins=configuration.describe_plugins
    ),
    "cli": _page("cli", cli=command_line.describe_commands),
    "http-api": _page(
        "http-api",
        openai=http_api.describe_openai,
        memory=http_api.describe_memory,
        console=http_api.describe_console,
        mcp=http_api.describe_mcp_tools,
        memos_client=http_api.describe_memos_client,
        memos_native=http_api.describe_memos_native,
        operators=http_api.describe_operators,
    ),
    "headers": _page("headers", requests=headers.describe_requests, responses=headers.describe_responses),
    "errors": _page("errors", errors=errors.describe_errors),
    "metrics": _page("metrics", metrics=metrics.describe_metrics),
    "hooks": _page("hooks", hooks=hooks.describe_hooks, types=hooks.describe_types),
    "guarantees": _page("guarantees", guarantees=guarantees.describe_guarantees),
    "clients": _page("clients", sdks=clients.describe_sdks, agents=clients.describe_agents),
}


def read(page: str) -> str:
    """The text of a page as it is."""
    return PAGES[page].file.read_text(encoding="utf-8")


def render(page: str) -> str:
    """The text of a page with its generated parts up to date. Raises KeyError for a marker of no known part, and
    ValueError if a part has no marker."""
    parts, text = PAGES[page].parts, read(page)
    names = {match["name"] for match in _PART.finditer(text)}
    if names < parts.keys():
        raise ValueError(f"docs/reference/{page}.md has no marker for {', '.join(parts.keys() - names)}")
    return _PART.sub(lambda match: f"{match[1]}\n{parts[match['name']]().strip()}\n\n{match[3]}", text)
