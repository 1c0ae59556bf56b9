"""The language of the code stays plain: the figures of `tests/docs/prose.py` have limits."""

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES
from tests.docs.prose import PHRASES, ROOT, Figures, measure

GATEWAY = sorted((ROOT / "gateway").rglob("*.py"))
MOST_ODD = 0.04  # share of the assignments of local variables
MOST = {"what + verb": 15.0, "nobody": 3.0, "whoever": 3.0, "stands": 3.0, "anew": 3.0}  # per 10 000 words


@functools.cache
def figures_of_gateway() -> Figures:
    return measure(GATEWAY)


def test_variables_are_named_for_what_they_hold() -> None:
    figures = figures_of_gateway()
    assert figures.assignments > 1000
    assert figures.odd_share <= MOST_ODD, figures.odd.most_common()


@pytest.mark.parametrize("phrase", sorted(PHRASES))
def test_docstrings_and_comments_are_plain(phrase: str) -> None:
    figures = figures_of_gateway()
    assert figures.words > 10_000
    places = [place for place in figures.places if PHRASES[phrase].search(place.split(": ", 1)[1])]
    assert figures.per_10_000(phrase) <= MOST[phrase], places


def test_every_folder_is_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.name for path in (ROOT / "gateway").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name for name in folders if f"| `{name}` |" not in page} == set()


def test_constants_say_of_what_they_are_the_limit() -> None:
    vague = re.compile(r"^_(?:MOST|LONGEST|SHORTEST|AT_ONCE|FEW|ENOUGH|LIMIT|MAX)\b", re.MULTILINE)
    assert [file.name for file in GATEWAY if vague.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("page", [page for page in PAGES if "zh" not in page.parts], ids=lambda page: page.name)
def test_pages_are_plain(page: Path) -> None:
    text = re.sub(r"<!-- generated: .*?<!-- end -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"```.*?```|`[^`\n]*`|\[[^\]]*\]\([^)]*\)", "", text, flags=re.DOTALL)
    for phrase in ("nobody", "whoever", "stands", "anew"):
        assert PHRASES[phrase].findall(text.replace("stand-in", "")) == []
    assert len(re.findall(r"(?:^|[.:;] )What (?:is|was|are|it|they|the|a)\b", text)) <= 1


def test_no_two_public_classes_share_a_name() -> None:
    names = Counter[str]()
    for file in GATEWAY:
        module = ast.parse(file.read_text(encoding="utf-8"))
        classes = [node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
        targets = [node.targets[0] for node in module.body if isinstance(node, ast.Assign)]
        aliases = [
            target.id for target in targets if isinstance(target, ast.Name) and re.match(r"[A-Z]\w*[a-z]", target.id)
        ]
        names.update(name for name in {*classes, *aliases} if not name.startswith("_"))
    assert [name for name, count in names.items() if count > 1] == []
