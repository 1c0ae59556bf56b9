"""The console's own sources: small modules that find each other, and nothing that a policy of the browser must stop."""

import itertools
import json
import re
from pathlib import Path

import pytest

from tests.unit.ui.javascript import walk
from tests.unit.ui.static import MODULES, SCRIPTS, STATIC, STYLES, inside, tokens_of

PAGE = (STATIC / "index.html").read_text(encoding="utf-8")
IMPORT_MAP: dict[str, str] = json.loads(re.findall(r'<script type="importmap">(.*?)</script>', PAGE)[0])["imports"]
_IMPORT = re.compile(r"""^(?:import|export)\b(?:([^;"'`=]*?)\bfrom\b)?\s*["']([^"']+)["'];""", re.MULTILINE)
_ON_DEMAND = re.compile(r"""\bimport\("\./([^"]+)"\)""")
_EXPORT = re.compile(r"^export (?:default |async )*(?:const|let|function\*?|class) (\w+)", re.MULTILINE)
_EXPORT_LIST = re.compile(r"^export \{([^}]*)\}", re.MULTILINE)
ODD_NAMES = {"found", "one", "made", "kept", "held", "told", "said"}
DANGEROUS = {
    "markup from text": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|ContextualFragment|srcdoc|DOMParser",
    "code from text": r"\beval\b|new Function\b|\bjavascript:|set(?:Timeout|Interval)\(\s*[\"'`]",
    "an address elsewhere": r"https?://(?!www\.w3\.org/2000/svg)",
    "inline style": r"style=\"|setAttribute\(\"style|cssText",
    "a property that takes every string for true": r"(?:spellcheck|draggable|contenteditable)=\"false\"",
    "an escape hatch": r"dangerouslySetInnerHTML|createPolicy|postMessage|document\.cookie|window\.open\(",
}
ONE_PLACE = {r"\bfetch\(": "lib/api.js", r"localStorage|sessionStorage|indexedDB": "lib/storage.js"}


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """The modules that a script imports, each with the names that it takes from it."""
    targets = []
    for names, target in _IMPORT.findall(path.read_text(encoding="utf-8")):
        listed = re.findall(r"\{([^}]*)\}", names)
        targets.append(
            (target, [name.split(" as ")[0].strip() for name in ",".join(listed).split(",") if name.strip()])
        )
    return targets


def resolve(path: Path, target: str) -> Path:
    if target in IMPORT_MAP:
        return STATIC / IMPORT_MAP[target].removeprefix("/ui/")
    assert target.startswith(("./", "../")), f"{inside(path)} imports {target}, which the import map does not name"
    return (path.parent / target).resolve()


def exports(path: Path) -> set[str]:
    source = path.read_text(encoding="utf-8")
    listed = ",".join(_EXPORT_LIST.findall(source)).split(",")
    return {*_EXPORT.findall(source), *(name.split(" as ")[-1].strip() for name in listed)}


@pytest.mark.parametrize("path", SCRIPTS, ids=inside)
def test_imports_resolve(path: Path) -> None:
    for target, names in imports(path):
        file = resolve(path, target)
        assert file.is_file(), f"{inside(path)}: there is no {target}"
        if file in SCRIPTS:
            assert set(names) <= exports(file), f"{inside(path)}: {target} does not export {set(names) - exports(file)}"


def test_every_script_is_loaded() -> None:
    main = (STATIC / "main.js").read_text(encoding="utf-8")
    loaded, waiting = set[Path](), [STATIC / "main.js", *(STATIC / path for path in _ON_DEMAND.findall(main))]
    while waiting:
        path = waiting.pop()
        if path not in loaded:
            loaded.add(path)
            waiting += [resolve(path, target) for target, _ in imports(path)] if path in SCRIPTS else []
    source = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    dynamic = {STATIC / name for name in re.findall(r'["`]/ui/([\w./-]+\.m?js)["`]', source)}
    assert [inside(path) for path in SCRIPTS if path not in loaded | dynamic] == []


def test_the_page_names_files_that_exist() -> None:
    for path in re.findall(r'(?:href|src)="/ui/([^"]+)"', PAGE) + [
        name.removeprefix("/ui/") for name in IMPORT_MAP.values()
    ]:
        assert (STATIC / path).is_file(), path
    linked = set(re.findall(r'href="/ui/(style/[^"]+)"', PAGE))
    assert linked == {inside(path) for path in STYLES}


def test_the_page_has_no_inline_code_but_its_import_map() -> None:
    assert len(re.findall(r"<script(?![^>]* src=)", PAGE)) == 1
    assert not re.search(r"<style|\sstyle=|\son\w+=", PAGE)


@pytest.mark.parametrize("path", [*SCRIPTS, *STYLES], ids=inside)
def test_nothing_dangerous_is_in_the_sources(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    for kind, expression in DANGEROUS.items():
        assert re.findall(expression, source) == [], kind
    for expression, place in ONE_PLACE.items():
        assert inside(path) == place or not re.search(expression, source), f"{expression} belongs to {place}"


@pytest.mark.parametrize("path", STYLES, ids=inside)
def test_styles_load_nothing(path: Path) -> None:
    assert not re.search(r"@import|url\((?!['\"]?(?:data:|/ui/))", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=inside)
def test_scripts_are_small_and_begin_with_their_job(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    assert re.match(r"// [A-Z].*[.:]$", lines[0]), "the first line is a comment that says the job of the module"


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_variables_of_scripts_are_nouns(path: Path) -> None:
    for level in walk(tokens_of(path)):
        for before, token in itertools.pairwise(level):
            assert before.text not in ("const", "let") or token.text not in ODD_NAMES, token.text


def test_variables_of_styles_exist() -> None:
    styles = "".join(path.read_text(encoding="utf-8") for path in STYLES)
    scripts = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    defined = set(re.findall(r"(--[\w-]+)\s*:", styles)) | set(re.findall(r'"(--[\w-]+)"', scripts))
    used = set(re.findall(r"var\((--[\w-]+)\)", styles + scripts))
    assert used - defined == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=inside)
def test_names_of_a_module_are_declared_once(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    names = re.findall(r"^(?:export )?(?:async )?(?:const|let|function\*?|class) (\w+)", source, re.MULTILINE)
    for imported, _ in _IMPORT.findall(source):
        listed = re.sub(r"\{|\}|\* as ", "", imported).split(",")
        names += [name.split(" as ")[-1].strip() for name in listed if name.strip()] if "export" not in imported else []
    assert sorted(names) == sorted(set(names))
