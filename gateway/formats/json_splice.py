"""Edits of JSON bytes in place: locates values, so that a request can be changed without re-serialising it. Pure.

All other bytes are unchanged (numbers, escapes, white space, duplicate names, order), so prompt caches of providers
still match. The bytes must be valid JSON (orjson has parsed them before).
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import orjson

__all__ = [
    "Span",
    "elements",
    "find",
    "insert_element",
    "insert_first",
    "insert_into_string",
    "insert_member",
    "is_deeper",
    "replace",
    "structure",
]

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_VALUE = re.compile(_STRING + rb"|[^\s{}\[\],:\"]++", re.DOTALL)
_NESTING = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_NO_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_SPACE = re.compile(rb"\s*+")

Span = tuple[int, int]


def find(raw: bytes, path: Sequence[str | int]) -> Span | None:
    """Start and end of the value at `path` (names and indexes); the last one of a duplicate name."""
    span: Span | None = (_skip_space(raw, 0), len(raw))
    for step in path:
        if span is None:
            return None
        span = _member(raw, span[0], step) if isinstance(step, str) else _element(raw, span[0], step)
    return span


def elements(raw: bytes, span: Span) -> list[Span]:
    """The spans of the elements of the array at `span`."""
    return list(_elements(raw, span[0]))


def replace(raw: bytes, span: Span, value: bytes) -> bytes:
    return raw[: span[0]] + value + raw[span[1] :]


def insert_into_string(raw: bytes, span: Span, text: str, *, at_end: bool = False) -> bytes:
    """Insert `text` at the beginning (or end) of the string at `span`."""
    inner = orjson.dumps(text)[1:-1]
    place = span[1] - 1 if at_end else span[0] + 1
    return raw[:place] + inner + raw[place:]


def insert_first(raw: bytes, span: Span, value: bytes) -> bytes:
    """Insert `value` before the first element of the array at `span`."""
    place = span[0] + 1
    is_empty = raw[_skip_space(raw, place)] == 0x5D
    return raw[:place] + value + (b"" if is_empty else b",") + raw[place:]


def insert_element(raw: bytes, span: Span, index: int, value: bytes) -> bytes:
    """Insert `value` at `index` into the array at `span`, which must have `index` elements or more."""
    if index == 0:
        return insert_first(raw, span, value)
    before = _element(raw, span[0], index - 1)
    if before is None:
        raise ValueError(f"the array has no element {index - 1}")
    return raw[: before[1]] + b"," + value + raw[before[1] :]


def insert_member(raw: bytes, name: str, value: bytes) -> bytes:
    """Insert a member at the beginning of the object `raw`."""
    place = _skip_space(raw, 0) + 1
    is_empty = raw[_skip_space(raw, place)] == 0x7D
    return raw[:place] + orjson.dumps(name) + b":" + value + (b"" if is_empty else b",") + raw[place:]


def structure(raw: bytes) -> bytes:
    """The brackets, braces and commas of JSON, in order, without those in strings. Some hundred megabytes a second;
    for invalid JSON the result is arbitrary."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in raw else raw
    return b"".join(unescaped.split(b'"')[::2]).translate(None, _NO_STRUCTURE)


def is_deeper(shape: bytes, most: int) -> bool:
    """True if a `structure` is nested deeper than `most` levels: each pass removes the innermost level."""
    brackets = shape.translate(_ONE_KIND, b",")
    for _ in range(most):
        outer = brackets.replace(b"[]", b"")
        if not outer or len(outer) == len(brackets):
            return bool(outer)
        brackets = outer
    return bool(brackets)


def _skip_space(raw: bytes, place: int) -> int:
    match = _SPACE.match(raw, place)
    return match.end() if match else place


def _skip_value(raw: bytes, place: int) -> int:
    """The end of the value that begins at `place`."""
    if raw[place] not in b"{[":
        match = _VALUE.match(raw, place)
        return match.end() if match else place + 1
    level = 0
    for match in _NESTING.finditer(raw, place):
        token = raw[match.start()]
        if token in b"{[":
            level += 1
        elif token in b"}]":
            level -= 1
            if level == 0:
                return match.end()
    return len(raw)


def _member(raw: bytes, place: int, name: str) -> Span | None:
    if raw[place] != 0x7B:
        return None
    span = None
    place = _skip_space(raw, place + 1)
    while raw[place] != 0x7D:
        key_end = _skip_value(raw, place)
        key = orjson.loads(raw[place:key_end])
        begin = _skip_space(raw, _skip_space(raw, key_end) + 1)
        end = _skip_value(raw, begin)
        if key == name:
            span = (begin, end)
        place = _next(raw, end)
    return span


def _element(raw: bytes, place: int, index: int) -> Span | None:
    return next(islice(_elements(raw, place), index, None), None) if raw[place] == 0x5B else None


def _elements(raw: bytes, place: int) -> Iterator[Span]:
    place = _skip_space(raw, place + 1)
    while raw[place] != 0x5D:
        end = _skip_value(raw, place)
        yield place, end
        place = _next(raw, end)


def _next(raw: bytes, end: int) -> int:
    """Position of the next member or element, or of the closing bracket."""
    place = _skip_space(raw, end)
    return _skip_space(raw, place + 1) if raw[place] == 0x2C else place
