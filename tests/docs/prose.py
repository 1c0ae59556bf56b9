"""Measures the language of the code: names of local variables, and phrases in docstrings and comments.

`python -m tests.docs.prose [FOLDER]` prints the figures of each package, and with `--list` every place.
"""

import argparse
import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ODD_NAMES", "PHRASES", "Figures", "measure"]

ROOT = Path(__file__).parents[2]
ODD_NAMES = frozenset(
    """
    one other found made kept held known own wanted asked said told left gone given named shown taken meant spoken
    heard looked read_ sought tried done passed chosen added moved changed stood thought brought bound taught
    """.split()
) - {"read_", "other", "done", "added", "changed", "passed", "chosen"}
"""Names of variables that say what happened to a value, not what the value is."""
PHRASES = {
    "what + verb": re.compile(
        r"\bwhat (?:is|was|were|are|has|had|have|does|did|do|it|they|he|she|the|a|an|this|that|these|those|comes?|goes"
        r"|stands?|holds?|becomes?|follows?|came|went|made|makes?|belongs?|remains?|fails?)\b",
        re.IGNORECASE,
    ),
    "nobody": re.compile(r"\b(?:nobody|somebody|anybody)(?:'s)?\b", re.IGNORECASE),
    "whoever": re.compile(r"\b(?:whoever|whatever|whichever)\b", re.IGNORECASE),
    "stands": re.compile(r"\bstands?\b", re.IGNORECASE),
    "anew": re.compile(r"\banew\b", re.IGNORECASE),
}


class Figures:
    """What was counted in some files: assignments of local variables and odd ones among them; words and phrases."""

    def __init__(self) -> None:
        self.assignments = 0
        self.words = 0
        self.odd = Counter[str]()
        self.phrases = Counter[str]()
        self.places: list[str] = []

    @property
    def odd_share(self) -> float:
        """Odd names as a share of the assignments."""
        return self.odd.total() / max(1, self.assignments)

    def per_10_000(self, phrase: str) -> float:
        """How often a phrase comes in 10 000 words of docstrings and comments."""
        return 10_000 * self.phrases[phrase] / max(1, self.words)


def measure(files: Iterator[Path] | list[Path]) -> Figures:
    """The figures of these Python files."""
    figures = Figures()
    for file in files:
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
        for line, name in _local_names(tree):
            figures.assignments += 1
            if name in ODD_NAMES:
                figures.odd[name] += 1
                figures.places.append(f"{file.relative_to(ROOT)}:{line}: {name}")
        for line, text in _prose(tree, source):
            figures.words += len(re.findall(r"\w+", text))
            for phrase, pattern in PHRASES.items():
                for match in pattern.finditer(text):
                    figures.phrases[phrase] += 1
                    figures.places.append(f"{file.relative_to(ROOT)}:{line}: {match.group()}")
    return figures


def _local_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Variables that functions bind: assignments, loops, `with`, comprehensions."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.lineno, node.id


def _prose(tree: ast.AST, source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, those of constants too, and comments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.docs.prose", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "gateway")
    parser.add_argument("--list", action="store_true", help="every place")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    packages = [*sorted(path for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))), folder]
    for package in packages:
        figures = measure(sorted(package.rglob("*.py")))
        shares = ", ".join(f"{phrase} {figures.per_10_000(phrase):.0f}" for phrase in PHRASES)
        print(f"{package.name:12} odd names {100 * figures.odd_share:4.1f} %; per 10 000 words: {shares}")
        if arguments.list and (package is not folder or len(packages) == 1):
            print("\n".join(figures.places))


if __name__ == "__main__":
    main()
