"""A reader of the console's JavaScript: strings, templates and calls. It knows what the console's own style needs."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Token", "calls", "read_tokens", "templates", "walk"]

_SPACE = re.compile(r"\s+|//[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME = re.compile(r"[\w$]+")
_STRING = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_PATTERN = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*")
_BEFORE_PATTERN = {"(", ",", "=", ":", "[", "!", "&", "|", "?", "{", "}", ";", ">", "return", ""}


@dataclass
class Token:
    """`kind`: name, string, template, pattern or sign. A template has `parts`, and `inner` tokens between them."""

    kind: str
    text: str
    parts: list[str] = field(default_factory=list)
    inner: list[list["Token"]] = field(default_factory=list)


def read_tokens(source: str) -> list[Token]:
    tokens, end = _read(source, 0)
    assert end == len(source), f"a brace closes too much at {end}"
    return tokens


def walk(tokens: list[Token]) -> Iterator[list[Token]]:
    """The list itself, and those inside of templates at any depth."""
    yield tokens
    for token in tokens:
        for inner in token.inner:
            yield from walk(inner)


def calls(tokens: list[Token], name: str) -> Iterator[list[list[Token]]]:
    """The arguments of each call of a function, as lists of tokens."""
    for level in walk(tokens):
        for index in range(len(level) - 1):
            is_called = level[index].text == name and level[index].kind == "name" and level[index + 1].text == "("
            is_method = index > 0 and level[index - 1].text in (".", "function")
            if is_called and not is_method:
                yield _arguments(level, index + 2)


def templates(tokens: list[Token], tag: str) -> Iterator[Token]:
    """The templates with a tag, at any depth."""
    for level in walk(tokens):
        for before, token in itertools.pairwise(level):
            if token.kind == "template" and before.kind == "name" and before.text == tag:
                yield token


def _arguments(level: list[Token], start: int) -> list[list[Token]]:
    arguments: list[list[Token]] = [[]]
    depth = 0
    for token in level[start:]:
        if token.kind == "sign" and token.text in ")]}":
            if depth == 0:
                break
            depth -= 1
        elif token.kind == "sign" and token.text in "([{":
            depth += 1
        if token.kind == "sign" and token.text == "," and depth == 0:
            arguments.append([])
        else:
            arguments[-1].append(token)
    return [argument for argument in arguments if argument]


def _read(source: str, position: int) -> tuple[list[Token], int]:
    """Tokens until the end, or until a closing brace that none of them opens."""
    tokens: list[Token] = []
    depth = 0
    while position < len(source):
        if match := _SPACE.match(source, position):
            position = match.end()
            continue
        if source[position] == "`":
            token, position = _read_template(source, position + 1)
            tokens.append(token)
            continue
        depth += {"{": 1, "}": -1}.get(source[position], 0)
        if depth < 0:
            break
        token = _read_plain(source, position, tokens[-1].text if tokens else "")
        tokens.append(token)
        position += len(token.text)
    return tokens, position


def _read_plain(source: str, position: int, before: str) -> Token:
    for kind, pattern in (("string", _STRING), ("name", _NAME), ("pattern", _PATTERN)):
        match = pattern.match(source, position)
        if match and (kind != "pattern" or before in _BEFORE_PATTERN):
            return Token(kind, match[0])
    return Token("sign", source[position])


def _read_template(source: str, position: int) -> tuple[Token, int]:
    token = Token("template", "`", [""])
    while source[position] != "`":
        if source.startswith("${", position):
            inner, position = _read(source, position + 2)
            token.inner.append(inner)
            token.parts.append("")
            position += 1
        else:
            size = 2 if source[position] == "\\" else 1
            token.parts[-1] += source[position : position + size]
            position += size
    return token, position + 1
