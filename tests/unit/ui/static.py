"""The console's own files, as the tests of its sources read them."""

import json
import re
from functools import cache
from pathlib import Path

from tests.unit.ui.javascript import Token, read_tokens

__all__ = ["LANGUAGES", "MODULES", "SCRIPTS", "STATIC", "STYLES", "inside", "texts", "texts_of", "tokens_of"]

STATIC = Path(__file__).parents[3] / "gateway" / "ui" / "static"
SCRIPTS = sorted(path for path in STATIC.rglob("*.js") if path.parent.name != "vendor")
MODULES = [path for path in SCRIPTS if path.parent.name != "lang"]
"""The scripts that contain no texts."""
STYLES = sorted((STATIC / "style").glob("*.css"))
LANGUAGES = ("en", "zh")
_SECTION = re.compile(r"^  (\w\w): \{$(.*?)^  \},$", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r'^    ("[^"]+"): ("(?:\\.|[^"\\])*"),$')


def inside(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


@cache
def tokens_of(path: Path) -> list[Token]:
    return read_tokens(path.read_text(encoding="utf-8"))


@cache
def texts_of(path: Path) -> dict[str, dict[str, str]]:
    """The texts of a file, by language and key. Raises AssertionError where it has another form."""
    source = path.read_text(encoding="utf-8")
    sections = {match[1]: match[2].strip("\n") for match in _SECTION.finditer(source)}
    assert set(sections) == set(LANGUAGES), f"{path.name} has other sections"
    entries: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for language, section in sections.items():
        for line in section.splitlines():
            match = _ENTRY.match(line)
            assert match, f'{path.name}: a text is one line, `    "key": "text",`, and this is not: {line}'
            entries[language][json.loads(match[1])] = json.loads(match[2])
    return entries


@cache
def texts() -> dict[str, dict[str, str]]:
    """The texts of each language by key. Raises AssertionError where a key comes twice."""
    entries: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for path in sorted((STATIC / "lang").glob("*.js")):
        for language, section in texts_of(path).items():
            assert entries[language].keys().isdisjoint(section), f"{path.name}: a key is there twice"
            entries[language] |= section
    return entries
