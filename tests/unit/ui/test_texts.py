"""The texts of the console: all are there in both languages, and none is left over."""

import re
from pathlib import Path

import pytest

from gateway.ui.console import load_files, needed_modules
from tests.unit.ui.javascript import Token, calls, read_tokens, templates, walk
from tests.unit.ui.static import LANGUAGES, MODULES, STATIC, inside, texts, texts_of, tokens_of

KEY = re.compile(r"[a-z_]+\.[a-z0-9_.]+")
NAMES = {"Memory Gateway", "API", "JSON", "English", "中文"}
"""Names and marks, which no language translates."""


def test_the_reader_understands_the_style_of_the_console() -> None:
    tokens = read_tokens(
        'const a = t(b ? "x.y" : `x.${c}`, { n: f(1, 2) }); // t("no")\nhtml`<p>${t("in.side")} text</p>`'
    )
    words = [[[token.text for token in argument] for argument in arguments] for arguments in calls(tokens, "t")]
    assert words == [
        [["b", "?", '"x.y"', ":", "`"], ["{", "n", ":", "f", "(", "1", ",", "2", ")", "}"]],
        [['"in.side"']],
    ]
    assert [template.parts for template in templates(tokens, "html")] == [["<p>", " text</p>"]]


def strings(tokens: list[Token]) -> list[str]:
    return [token.text[1:-1] for level in walk(tokens) for token in level if token.kind == "string"]


def patterns() -> dict[str, str]:
    """Regular expressions for keys that are built from data, each with a place of its use."""
    expressions = {}
    for path in MODULES:
        for arguments in calls(tokens_of(path), "t"):
            for token in arguments[0]:
                if token.kind == "template":
                    expressions[".+".join(map(re.escape, token.parts))] = inside(path)
        for arguments in calls(tokens_of(path), "label"):
            for prefix in strings(arguments[0]):
                expressions[re.escape(prefix) + r"\..+"] = inside(path)
    return expressions


def test_every_text_is_there_in_all_languages() -> None:
    for language in LANGUAGES:
        assert set(texts()[language]) == set(texts()["en"]), language
        assert [key for key, text in texts()[language].items() if not text.strip()] == []


def test_every_text_has_the_same_placeholders_in_all_languages() -> None:
    for key, text in texts()["en"].items():
        for language in LANGUAGES:
            assert set(re.findall(r"\{(\w+)\}", texts()[language][key])) == set(re.findall(r"\{(\w+)\}", text)), key


def test_chinese_texts_are_chinese() -> None:
    english, chinese = texts()["en"], texts()["zh"]
    words = {key: re.sub(r"\{\w+\}", "", text) for key, text in chinese.items() if text == english[key]}
    same = {key: text for key, text in words.items() if re.search(r"[a-z]{3}", text)}
    assert {key: text for key, text in same.items() if not re.fullmatch(r"[\w.:/-]+", text)} == {}


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_every_text_that_is_used_exists(path: Path) -> None:
    keys = texts()["en"]
    for arguments in calls(tokens_of(path), "t"):
        for key in strings(arguments[0]):
            assert key in keys or not KEY.fullmatch(key), f"{key} is in no module of lang/"


def test_every_key_that_is_built_from_data_has_texts() -> None:
    keys = texts()["en"]
    for expression, place in patterns().items():
        assert any(re.fullmatch(expression, key) for key in keys), f"{place}: no text matches {expression}"


def test_no_text_is_left_over() -> None:
    literals = {text for path in MODULES for text in strings(tokens_of(path))}
    expressions = [re.compile(expression) for expression in patterns()]
    unused = [
        key
        for key in texts()["en"]
        if key not in literals and not any(expression.fullmatch(key) for expression in expressions)
    ]
    assert unused == []


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_placeholders_get_values(path: Path) -> None:
    for arguments in calls(tokens_of(path), "t"):
        names = {name for key in strings(arguments[0]) for name in re.findall(r"\{(\w+)\}", texts()["en"].get(key, ""))}
        values = {token.text for token in arguments[1]} if len(arguments) > 1 else set()
        if "..." not in values and (not values or "{" in values):
            assert names <= values, f"{[token.text for token in arguments[0]]} lacks {names - values}"


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_no_text_is_outside_of_the_languages(path: Path) -> None:
    for template in templates(tokens_of(path), "html"):
        page = re.sub(r"<!--.*?-->", "", "\0".join(template.parts), flags=re.DOTALL)
        for text in re.split(r"<[^>]*>|\0", page):
            assert text.strip() in NAMES or not re.search(r"[^\W\d_]{2}", text), f"move it to lang/: {text.strip()}"
    for text in strings(tokens_of(path)):
        assert text in NAMES or not re.search(r"[\u3000-\u9fff\uff00-\uffef]", text), text


@pytest.mark.parametrize("page", sorted((STATIC / "pages").glob("*.js")), ids=inside)
def test_a_page_loads_the_texts_that_it_shows(page: Path) -> None:
    contents = {path: file.content for path, file in load_files().items()}
    needed = {STATIC / path for path in (*needed_modules(contents, inside(page)), *needed_modules(contents, "main.js"))}
    keys = {key for path in needed if path.parent.name == "lang" for key in texts_of(path)["en"]}
    for path in needed & set(MODULES):
        for arguments in calls(tokens_of(path), "t"):
            for key in strings(arguments[0]):
                assert key in keys or not KEY.fullmatch(key), f"{inside(path)} shows {key}, whose texts are not loaded"
    assert page.name in ("not_found.js", "sign_in.js") or "addTexts(" in page.read_text(encoding="utf-8")
