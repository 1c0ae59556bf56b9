"""Locates blocks of memories in a request body, for people who want to see the prompt as the model got it. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["BlockPlace", "find_blocks"]


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """The place of a block: the JSON pointer (RFC 6901) of a string, and positions in it in Unicode code points.
    `is_current`: it was injected for this turn, not for an earlier one."""

    pointer: str
    start: int
    end: int
    is_current: bool


def find_blocks(raw: bytes, current: str, earlier: Iterable[str], *, is_first: bool) -> list[BlockPlace]:
    """The places of the block of a turn and of the blocks of earlier turns, in the order of the body.

    A text that equals a block may be there more than once, since users quote. The block of the turn is the first of
    these with `is_first`, as in a system prompt, else the last.
    """
    earlier_texts = {text.rstrip() for text in earlier} - {""}
    texts = {text.rstrip(): text for text in (*earlier, current) if text.strip()}
    places = [
        (text, BlockPlace(pointer, start, end, False))
        for pointer, string in _strings(orjson.loads(raw))
        for text, start, end in _occurrences(string, texts)
    ]
    of_turn = [place for text, place in places if text == current.rstrip()]
    chosen = None if not of_turn else of_turn[0 if is_first else -1]
    return [
        BlockPlace(place.pointer, place.start, place.end, place is chosen)
        for text, place in places
        if place is chosen or text in earlier_texts
    ]


def _occurrences(string: str, texts: dict[str, str]) -> list[tuple[str, int, int]]:
    """The texts in a string with their positions. `texts`: with white space at the end, which may be missing."""
    occurrences = []
    for text, whole in texts.items():
        start = string.find(text)
        while start >= 0:
            end = start + len(whole if string.startswith(whole, start) else text)
            occurrences.append((text, start, end))
            start = string.find(text, end)
    return sorted(occurrences, key=lambda occurrence: occurrence[1])


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    """All strings of a JSON value with their pointers, in order."""
    remaining: list[tuple[str, Any]] = [("", value)]
    while remaining:
        pointer, item = remaining.pop()
        if isinstance(item, str):
            yield pointer, item
        elif isinstance(item, dict):
            members = [(f"{pointer}/{_escaped(name)}", member) for name, member in item.items()]
            remaining += reversed(members)
        elif isinstance(item, list):
            remaining += [(f"{pointer}/{index}", item[index]) for index in range(len(item) - 1, -1, -1)]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
