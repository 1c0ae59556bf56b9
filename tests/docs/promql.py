"""Reads expressions of PromQL as far as the files in `deploy` need it: metrics, labels, functions and brackets."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Expression", "read_expression"]

_AGGREGATIONS = frozenset("sum min max avg count topk".split())
_MAY_FOLLOW: dict[str, tuple[str, ...]] = dict.fromkeys(
    "rate increase histogram_quantile scalar vector".split(), ("(",)
)
_MAY_FOLLOW |= dict.fromkeys(_AGGREGATIONS, ("(", "by", "without"))
_KEYWORDS = frozenset("by without or and unless on ignoring bool offset".split())
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"[^"\\]*")|(?P<duration>\[(?:\d+[smhd]|\$__rate_interval)\])|(?P<number>\d+(?:\.\d+)?)"""
    r"""|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<sign>==|!=|=~|!~|>=|<=|[-+*/><=(){},]))"""
)
_PAIRS = {")": "(", "}": "{"}


@dataclass(frozen=True, slots=True)
class Expression:
    """`metrics`: the labels that an expression names in braces, by metric; `grouped`: labels in `by`; `labels`: those
    that its result can have."""

    metrics: Mapping[str, frozenset[str]]
    grouped: frozenset[str]
    labels: frozenset[str]


def read_expression(text: str, known: Mapping[str, frozenset[str]]) -> Expression:
    """Read an expression; `known` are the labels of the metrics that exist. Raises ValueError."""
    tokens = _split(text)
    _check_brackets(value for _, value in tokens)
    metrics: dict[str, frozenset[str]] = {}
    grouped: set[str] = set()
    index = 0
    while index < len(tokens):
        kind, value = tokens[index]
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if kind != "name":
            index += 1
        elif value in ("by", "without", "on", "ignoring"):
            end = _end(tokens, index + 1, ")")
            grouped |= {name for kind, name in tokens[index + 1 : end] if kind == "name"}
            index = end
        elif value in _KEYWORDS or following in _MAY_FOLLOW.get(value, ()):
            index += 1
        elif value in known:
            end = _end(tokens, index + 1, "}") if following == "{" else index + 1
            names = _matched(tokens[index + 2 : end - 1])
            if names - known[value]:
                raise ValueError(f"{value} has no label {', '.join(sorted(names - known[value]))}")
            metrics[value] = metrics.get(value, frozenset()) | names
            index = end
        else:
            raise ValueError(f"there is no metric or function {value}")
    own = frozenset().union(*(known[name] for name in metrics))
    if grouped - own:
        raise ValueError(f"no metric has the label {', '.join(sorted(grouped - own))}")
    is_aggregated = any(value in _AGGREGATIONS and value != "topk" for _, value in tokens)
    return Expression(metrics, frozenset(grouped), frozenset(grouped) if is_aggregated else own)


def _split(text: str) -> list[tuple[str, str]]:
    tokens, place = [], 0
    text = text.strip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise ValueError(f"cannot be read: {text[place : place + 20]!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return tokens


def _check_brackets(values: Iterable[str]) -> None:
    opened: list[str] = []
    for value in values:
        if value in _PAIRS.values():
            opened.append(value)
        elif value in _PAIRS and (not opened or opened.pop() != _PAIRS[value]):
            raise ValueError(f"{value} closes nothing")
    if opened:
        raise ValueError(f"{opened[-1]} is not closed")


def _end(tokens: list[tuple[str, str]], begin: int, sign: str) -> int:
    """The place after the next `sign`."""
    return next(index for index in range(begin, len(tokens)) if tokens[index][1] == sign) + 1


def _matched(tokens: list[tuple[str, str]]) -> frozenset[str]:
    """The names of labels in braces. Raises ValueError."""
    names = set()
    for begin in range(0, len(tokens), 4):
        kinds = [kind for kind, _ in tokens[begin : begin + 3]]
        comma = tokens[begin + 3][1] if begin + 3 < len(tokens) else ","
        if kinds != ["name", "sign", "string"] or tokens[begin + 1][1] not in ("=", "!=", "=~", "!~") or comma != ",":
            raise ValueError(f"is no matcher: {' '.join(value for _, value in tokens[begin : begin + 4])}")
        names.add(tokens[begin][1])
    return frozenset(names)
