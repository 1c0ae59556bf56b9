"""Markdown pages of the repository, as the tests of the documentation read them."""

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PAGES", "ROOT", "anchors", "blocks", "links", "read", "shell_commands"]

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ROOT / "llms.txt",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
]
_FENCE = re.compile(r"^```(?P<language>[\w{}-]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language."""
    return [match["code"] for match in _FENCE.finditer(read(page)) if match["language"] == language]


def shell_commands(page: Path) -> Iterator[str]:
    """Yield the lines of shell blocks that run the gateway, without their comments."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            if line.startswith("gateway "):
                yield line.partition(" #")[0].strip()


def links(page: Path) -> list[str]:
    """The targets of the links and images of a page, outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", read(page)))
    return [match["target"] for match in _LINK.finditer(prose)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    prose, found = _FENCE.sub("", read(page)), set[str]()
    for heading in re.findall(r"^#{1,6} (.+)$", prose, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found
